"""The texts that the server looks at: open documents before files on disk, and each parsed once."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from masc.dsl import syntax
from masc.dsl.diagnostics import Diagnostic
from masc.dsl.limits import FILE
from masc.dsl.read import SUFFIXES, read_source
from masc.dsl.regular import read_regular
from masc.dsl.source import Source

MOST_FILES = 1000
"""Of a workspace: whoever opens the home folder shall not wait for all of it."""
_MOST_ENTRIES = 50_000
_VERSION = re.compile(r"^[\"']?mas[\"']?\s*:", re.MULTILINE)
_ELSEWHERE = {"node_modules", "__pycache__", "build", "dist", "venv"}


@dataclass(frozen=True)
class Parsed:
    """A file as it is now. `file` None: nothing of it could be understood."""

    source: Source
    file: syntax.File | None
    diagnostics: tuple[Diagnostic, ...]


def parse(path: str, text: str) -> Parsed:
    source = Source(path, text)
    file, found = read_source(source)
    return Parsed(source, file, tuple(found))


def real(path: str | Path) -> str:
    """What a file is known by, however it was reached."""
    return os.path.realpath(path)


def workspace_files(folders: Iterable[str]) -> tuple[str, ...]:
    """The files of the language in some folders and below, artifacts' copies left out."""
    found: dict[str, None] = {}
    seen = 0
    for folder in folders:
        for where, inner, names in os.walk(folder):
            inner[:] = sorted(name for name in inner if _ours(name))
            seen += len(names) + len(inner)
            found |= {real(os.path.join(where, name)): None for name in sorted(names) if name.endswith(SUFFIXES)}
            if seen > _MOST_ENTRIES or len(found) > MOST_FILES:
                break
    return tuple(found)[:MOST_FILES]


def _ours(folder: str) -> bool:
    return not (folder.startswith(".") or folder.endswith(".masc") or folder in _ELSEWHERE)


def is_program(path: str, text: str) -> bool:
    """Whether a file is masc's: YAML may be anybody's, and is where it says its version."""
    return path.endswith(".mas") or _VERSION.search(text) is not None


def load(
    paths: Iterable[str], texts: Mapping[str, str], known: Mapping[str, Parsed] | None = None
) -> dict[str, Parsed]:
    """These files and whatever they import, by real path, as far as they can be read.

    `texts`: what the editor holds, by real path. `known`: what was parsed before; of it, what has not changed since is
    not parsed again.
    """
    before = known or {}
    found: dict[str, Parsed] = {}
    waiting = [*texts, *paths]
    while waiting:
        path = waiting.pop(0)
        if path in found or not path.endswith(SUFFIXES):
            continue
        text = texts[path] if path in texts else _read(path)
        if text is None or not is_program(path, text):
            continue
        earlier = before.get(path)
        parsed = found[path] = earlier if earlier and earlier.source.text == text else parse(path, text)
        if parsed.file is not None:
            waiting += [target for _, target in imports(path, parsed.file)]
    return found


def _read(path: str) -> str | None:
    try:
        return read_regular(path, FILE).decode("utf-8").removeprefix("\ufeff")
    except (OSError, ValueError):
        return None


def imports(path: str, file: syntax.File) -> Iterator[tuple[syntax.Import, str]]:
    """The imports of a file, and the real path of what each names."""
    for node in file.declarations:
        if isinstance(node, syntax.Import):
            try:
                yield node, real(os.path.join(os.path.dirname(path), os.path.expanduser(str(node.path.value))))
            except ValueError:  # a path that is none
                continue
