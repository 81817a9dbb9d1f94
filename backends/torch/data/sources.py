"""Rows of all that can be named (`compiler/files/sources.py`): files by masc's own readers, which say where they are
wrong; what `datasets` saved and what is on the hub by `datasets`, which runs no code of a data set."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from masc.backends.torch.data.formats import Entry, Found, entries, no_rows_hint
from masc.backends.torch.data.rows import narrow_columns
from masc.backends.torch.data.values import narrowed
from masc.compiler.files.reading import read_regular
from masc.compiler.files.sources import (
    PACKED,
    SUFFIXES,
    RowSource,
    files_of,
    is_repository,
    is_saved,
    kind_of,
    looks_like_hub,
    saved_splits,
)
from masc.dsl.diagnostics import MascError, did_you_mean, fail, first_line

MOST_BYTES = 16 << 30
"""Of a file of rows: it is held in memory as a whole."""


def entries_of(source: RowSource) -> Iterator[Entry]:
    """The rows of a source in order, each broken one as the error that it is.

    MascError where it cannot be read at all: E0601, E0602, E0680 as of a file; E0626 it is not said which rows of it
    are meant, or these are not there; E0627 `datasets` is not installed; E0624 it cannot load it; E0625 it is gated.
    """
    path = source.path
    if path is None:
        yield from _from_datasets(source)
    elif not path.is_dir():
        yield from _of_file(source, path)
    elif is_saved(path):
        yield from _saved(source, path)
    elif source.config is not None or is_repository(path):
        yield from _repository(source, path)
    else:
        yield from _of_folder(source, path)


def hint_for_none(source: RowSource) -> str | None:
    """What would have been rows, where there are none."""
    return no_rows_hint(source.path) if source.path is not None and not source.path.is_dir() else None


def _of_file(source: RowSource, path: Path) -> Iterator[Entry]:
    if source.split is not None:
        raise fail("E0626", f"`{path}` is a file, which has no splits", hint="name the file alone")
    yield from entries(path, _content(path, source.written))


def _content(path: Path, written: str) -> bytes:
    try:
        return read_regular(path, MOST_BYTES)
    except OSError as error:
        nothing = isinstance(error, FileNotFoundError) and not path.is_symlink()
        hint = _near(path, written) if nothing else None
        raise fail("E0601", f"cannot read {path}: {error.strerror or error}", hint=hint) from None
    except ValueError as error:  # a null character in the path
        raise fail("E0601", f"cannot read {str(path)!r}: {error}") from None


def _near(path: Path, written: str) -> str:
    """What could be meant by a path that is not there."""
    try:
        there = [other for other in path.parent.iterdir() if other.name.lower().endswith((*SUFFIXES, *PACKED))]
        files = [other.name for other in there if other.is_file()]
    except OSError:
        files = []
    if near := did_you_mean(path.name, files):
        return near
    if looks_like_hub(written):
        return f"a data set of the hub is named with its split: `{written}:train`, `{written}:config/train`"
    return f"it was looked for in `{path.parent.absolute()}`"


# -- folders -------------------------------------------------------------------------------------------------------


def _of_folder(source: RowSource, folder: Path) -> Iterator[Entry]:
    try:
        splits = files_of(folder)
    except (OSError, ValueError) as error:
        raise fail("E0601", f"cannot read {folder}: {getattr(error, 'strerror', None) or error}") from None
    if not splits:
        hint = f"files of rows end in {', '.join(SUFFIXES)}, also .gz, .bz2, .xz"
        raise fail("E0626", f"`{folder}` holds no file of rows", hint=hint)
    yield from _of_files(folder, splits[_chosen(source, list(splits))])


def _of_files(folder: Path, paths: Sequence[Path]) -> Iterator[Entry]:
    """The rows of files in a folder. E0626 where they are of several kinds, or of one that is not read."""
    kinds: dict[str, Path] = {}
    for path in paths:
        kinds.setdefault(kind_of(path.name) or "", path)
    if len(kinds) > 1:
        shown = " and ".join(f"`{path.name}`" for path in list(kinds.values())[:2])
        hint = "they may hold the same rows twice: name the file that is meant, or keep one kind in the folder"
        raise fail("E0626", f"`{folder}` holds files of rows of several kinds, such as {shown}", hint=hint)
    if "" in kinds:
        hint = f"files of rows end in {', '.join(SUFFIXES)}, also .gz, .bz2, .xz"
        raise fail("E0626", f"`{kinds['']}` is no file of rows that masc reads", hint=hint)
    for path in paths:
        name = path.relative_to(folder) if path.is_relative_to(folder) else path
        for found in entries(path, _content(path, str(path))):
            yield replace(found, where=f"{found.where} of `{name}`") if isinstance(found, Found) else found


def _chosen(source: RowSource, splits: list[str]) -> str:
    """The split that is meant. "" is what no name of a file says to be of one. E0626."""
    place = source.path if source.path is not None else source.hub
    named = [name for name in splits if name]
    if source.split is not None:
        if source.split in named:
            return source.split
        hint = did_you_mean(source.split, named) or f"it has {_listed(named)}"
        raise fail("E0626", f"`{place}` has no split `{source.split}`", hint=hint)
    if len(splits) == 1:
        return splits[0]
    also = ", and files that are of none" if "" in splits else ""
    shown = " or ".join(f"`{place}:{name}`" for name in named[:3])
    raise fail("E0626", f"`{place}` has {_listed(named)}{also}", hint=f"say which is meant: {shown}")


def _listed(names: list[str]) -> str:
    what = "the splits" if len(names) > 1 else "the split"
    return f"{what} {', '.join(f'`{name}`' for name in names[:12])}{' and more' if len(names) > 12 else ''}"


def _saved(source: RowSource, folder: Path) -> Iterator[Entry]:
    try:
        splits = saved_splits(folder)
    except (OSError, ValueError) as error:
        raise _damaged(str(folder), error) from None
    if source.config is not None or (splits is None and source.split is not None):
        raise fail("E0626", f"`{folder}` was saved by `datasets` as one split", hint="name the folder alone")
    part = folder if splits is None else folder / _chosen(source, list(splits))
    datasets = _library(f"`{folder}` was saved by the package `datasets`")
    try:
        found = datasets.load_from_disk(str(part))
    except Exception as error:  # of many kinds: its own, the system's, pyarrow's
        raise _damaged(str(part), error) from None
    yield from _rows(found, source)


# -- datasets ------------------------------------------------------------------------------------------------------


def _library(why: str) -> Any:
    try:
        import datasets
    except ImportError:
        hint = "pip install datasets (masc's extra `data` brings it), or name a file of rows"
        raise fail("E0627", f"{why}, which is not installed", hint=hint) from None
    return datasets


def _from_datasets(source: RowSource) -> Iterator[Entry]:
    """A data set of the hub."""
    datasets = _library(f"`{source.written}` is a data set of the Hugging Face hub, read by the package `datasets`")
    # What is called by the plain id may be a folder in the working directory, which nobody meant.
    place = f"hf://datasets/{source.hub}" if Path(str(source.hub)).exists() else source.hub
    try:
        found = datasets.load_dataset(place, source.config, split=source.split, revision=source.revision)
    except Exception as error:  # of many kinds: its own, the hub's, the system's, pyarrow's
        raise refusal(str(source.hub), error) from None
    yield from _rows(found, source)


def _repository(source: RowSource, folder: Path) -> Iterator[Entry]:
    """A folder that is laid out like a data set of the hub: `datasets` says which files are meant."""
    datasets = _library(f"`{folder}` is laid out like a data set of the hub, read by the package `datasets`")
    try:
        files = datasets.load_dataset_builder(str(folder), source.config).config.data_files
    except Exception as error:
        raise refusal(str(folder), error) from None
    paths = [Path(path) for path in (files or {}).get(_chosen(source, list(files or {})), ())]
    yield from _of_files(folder, paths)


def _rows(found: Any, source: RowSource) -> Iterator[Entry]:
    narrow = narrow_columns(found)
    # Text, numbers and lists; a picture or a sound stays the bytes that it is.
    for number, row in enumerate(found.with_format(None), start=1):
        yield Found(narrowed(dict(row), narrow), f"row {number} of `{source.written}`", None)


def _damaged(what: str, error: Exception) -> MascError:
    return fail("E0624", f"cannot load the data set `{what}`: {_reason(error)}", hint="save it again (`save_to_disk`)")


def refusal(name: str, error: Exception, gated: bool = False) -> MascError:
    """What `datasets` says of a data set that it cannot load. The hub tells a stranger that a gated data set is not
    there, and so does `datasets`, in several wordings. gated: it is known to be."""
    said = str(error)
    stranger = re.search(r"gated|authenticat|doesn't exist|\b40[13]\b", said) is not None
    if stranger and (gated or "gated" in said):
        hint = f"ask for access on its page on the Hugging Face hub and log in with `hf auth login`; {FILE}"
        return fail("E0625", f"the data set `{name}` is only for those whom its owners let in", hint=hint)
    if (wrong := _wrong_name(said)) is not None:
        return fail("E0626", f"`{name}`: {wrong[0]}", hint=wrong[1])
    return fail("E0624", f"cannot load the data set `{name}`: {_reason(error)}", hint=f"without a network, {FILE}")


_NAMES = (
    (re.compile(r"Unknown split \"(.*?)\".*one of \[(.*)\]", re.DOTALL), "it has no split `{}`", "the splits"),
    (re.compile(r"BuilderConfig '(.*?)' not found.*?\[(.*?)\]", re.DOTALL), "it has no config `{}`", "the configs"),
    (re.compile(r"(Config name is missing).*?configs: \[(.*?)\]", re.DOTALL), "its config is not said", "the configs"),
)
"""How `datasets` says that a name is wrong: the name, and the list of those that there are."""


def _wrong_name(said: str) -> tuple[str, str] | None:
    """What is wrong with the name of a split or config, and a hint."""
    for pattern, message, what in _NAMES:
        if (match := pattern.search(said)) is not None:
            known = re.findall(r"'(.*?)'", match[2])
            listed = ", ".join(f"`{name}`" for name in known[:12])
            return message.format(match[1]), did_you_mean(match[1], known) or f"it has {what} {listed}"
    return None


FILE = "rows from a file do as well: --data FILE"


def _reason(error: Exception) -> str:
    while error.__cause__ is not None and isinstance(error.__cause__, Exception):  # "An error occurred" says little
        error = error.__cause__
    return first_line(error)
