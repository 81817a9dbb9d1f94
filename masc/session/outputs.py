"""Checks, before any work, that a command does not overwrite its inputs or write into an artifact, a model's folder or
a training's files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from masc.compiler.artifact import artifact_of, checkpoint_above, is_artifact
from masc.compiler.files.sources import row_source
from masc.compiler.files.writing import check_file, check_folder
from masc.compiler.resolve.imports import read_program
from masc.dsl.diagnostics import MascError, fail
from masc.session.programs import compile_remembering

SEEN = ".seen"
"""A file by which machines find out that they see the same folder."""
_REPORTS = frozenset({"runs", "table.md", "table.csv", "table.json", SEEN})
_RUN = re.compile(r"[a-z]+(-[a-z]+)?-[0-9a-f]{12}")
"""The name of a run's folder in `runs/` of a comparison: its row and a hash."""


def check_outputs(
    outputs: Mapping[str, Path | None],
    source: Path,
    given: Mapping[str, str | Path | None] | None = None,
    sets: Mapping[str, str] | None = None,
) -> None:
    """E0612 if an output of a command cannot be written, is one of its inputs (the source, its imports, the data that
    it names) or lies in a folder of data that it reads, is another of its outputs, or lies in an artifact, a model's
    folder or a training's files.

    outputs, given: the files that the command writes and reads (data as it is named), by the name of their option;
    None: not given. sets: what `--set` says.
    """
    chosen = {name: path for name, path in outputs.items() if path is not None}
    if not chosen:
        return
    sources = {f"`{name}`": row_source(written).path for name, written in (given or {}).items() if written is not None}
    inputs = {name: path for name, path in sources.items() if path is not None}
    read_by_it = [*inputs.items(), *_read_by(source, sets or {})]
    for i, (name, path) in enumerate(chosen.items()):
        check_file(path)
        for what, other in read_by_it:
            if _same(path, other):
                raise _refused(path, f"it is {what}, which is read")
            if other.is_dir() and Path(os.path.realpath(other)) in Path(os.path.realpath(path)).parents:
                raise _refused(path, f"it lies in {what}, a folder whose files are read")
        for other_name, other in [*chosen.items()][:i]:
            if _same(path, other):
                raise _refused(path, f"`{other_name}` and `{name}` are the same file")
        if whose := owner_of(path):
            raise _refused(path, f"it lies in {whose}")


def check_table_folder(out: Path, source: Path) -> None:
    """Whether a comparison may write into a folder. E0612 for the folder of the source and for one inside an artifact
    or a model's folder, E0518 for one with files that no comparison wrote."""
    check_folder(out)
    if _same(out, source.absolute().parent):
        raise _refused(out, f"it is the folder of `{source.name}` itself", "name another folder with -o")
    if whose := owner_of(out / "table.json"):
        raise _refused(out, f"it lies in {whose}", "name another folder with -o")
    if out.is_dir() and (names := {path.name for path in out.iterdir()}) and not _is_table_folder(out, names):
        message = f"`{out}` is neither empty nor the folder of an earlier comparison: it holds `{min(names)}`"
        raise fail("E0518", message, hint="name a new or empty folder with -o")


def _is_table_folder(out: Path, names: set[str]) -> bool:
    """Whether a comparison wrote the folder. Its `runs/` is there from the first run on, with names of its own kind."""
    runs = [path.name for path in (out / "runs").iterdir()] if (out / "runs").is_dir() else []
    return any(map(_RUN.fullmatch, runs)) or (not runs and names <= _REPORTS)


def _refused(path: Path, why: str, hint: str = "name another file") -> MascError:
    return fail("E0612", f"cannot write `{path}`: {why}", hint=hint)


def _same(one: Path, other: Path) -> bool:
    """Whether two paths are the same file, also by symbolic or hard links. Neither need exist yet."""
    if os.path.realpath(one) == os.path.realpath(other):
        return True
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def _read_by(source: Path, sets: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    """The source, its imports and the data files that it names. Errors in it are reported elsewhere."""
    yield "the program", source
    try:
        compilation = compile_remembering(source, artifact_of(source), sets)
    except MascError:
        return
    if compilation.file is not None:
        for imported in read_program(compilation.file, source, compilation.base)[0].importers:
            yield f"`{imported.path}`, which the program imports", Path(imported.path)
    if compilation.plan is not None:
        settings = compilation.plan.train
        for name, written in (("data", settings.data), ("eval_data", settings.eval_data)):
            if written is not None and (path := row_source(written, compilation.base).path) is not None:
                yield f"the program's `{name}`", path


def owner_of(path: Path) -> str | None:
    """The artifact, the model or the training that a path lies in, as it is written or by links."""
    for folder in dict.fromkeys([*Path(os.path.realpath(path)).parents, *path.absolute().parents]):
        if folder.is_dir() and is_artifact(folder):
            return f"the artifact `{folder.name}`"
        if (folder / "config.json").is_file() and next(folder.glob("*.safetensors"), None) is not None:
            return f"the folder of the model `{folder.name}`"
    for way in (Path(os.path.realpath(path)), path.absolute()):
        if whose := checkpoint_above(way):
            return whose
    return None
