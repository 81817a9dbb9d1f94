"""A file to a syntax tree: `.mas` or YAML, by its suffix."""

from __future__ import annotations

import os
from pathlib import Path

from masc.dsl.diagnostics import Diagnostic, did_you_mean
from masc.dsl.limits import FILE
from masc.dsl.regular import MEND_LINK, TooLargeError, dangling, read_regular
from masc.dsl.source import Source, Span
from masc.dsl.syntax import File

SUFFIXES = (".mas", ".yaml", ".yml")
_TOO_LARGE = "a program holds prompts and edges; long texts are inputs, columns of the data"


def read(path: str | os.PathLike[str]) -> tuple[File | None, list[Diagnostic], Source | None]:
    """Read and parse a file. Whatever is wrong with it, or with the path, is in the diagnostics."""
    path = Path(path)
    if path.suffix not in SUFFIXES and not path.is_dir() and dangling(path) is None:
        return None, [Diagnostic("E0133", f"`{path}` is no `.mas` or YAML file", hint=_known())], None
    try:
        data = read_regular(path, FILE)
    except FileNotFoundError:
        if why := dangling(path):
            return None, [Diagnostic("E0130", f"`{path}` cannot be read: {why}", hint=MEND_LINK)], None
        return None, [Diagnostic("E0130", f"there is no file `{path}`", hint=_nearby(path))], None
    except IsADirectoryError:
        return None, [Diagnostic("E0131", f"`{path}` is a folder", hint="name the file in it")], None
    except TooLargeError as error:
        return None, [Diagnostic("E0215", f"`{path}` is too large: {error}", hint=_TOO_LARGE)], None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return None, [Diagnostic("E0134", f"`{path}` cannot be read: {why}")], None
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        hint = "save it as UTF-8"
        return None, [Diagnostic("E0132", f"`{path}` is not UTF-8: line {line} holds other bytes", hint=hint)], None
    source = Source(str(path), text.removeprefix("\ufeff"), marked=text.startswith("\ufeff"))
    return *read_source(source), source


def read_source(source: Source) -> tuple[File | None, list[Diagnostic]]:
    """Parse a text; the suffix of its path says in which form it is (`.mas` unless it is YAML's)."""
    if len(source.text) > FILE:
        message = f"this text is too large: {len(source.text):,} characters, more than the {FILE:,} that are read"
        return None, [Diagnostic("E0215", message, Span(source, 0, 0), hint=_TOO_LARGE)]
    if source.path.endswith((".yaml", ".yml")):
        from masc.dsl.yaml_reader import parse_yaml  # yaml is imported only for YAML

        return parse_yaml(source)
    from masc.dsl.parser import parse

    return parse(source)


def _known() -> str:
    return f"the suffixes are {', '.join(f'`{suffix}`' for suffix in SUFFIXES)}"


def _nearby(path: Path) -> str | None:
    try:
        names = [entry.name for entry in path.parent.iterdir() if entry.suffix in SUFFIXES]
    except OSError:
        return None
    return did_you_mean(path.name, names)
