"""Where a command may write: never over what it reads, nor into an artifact, a model or what training keeps. Asked
before any work."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from masc.compiler.artifact import artifact_of, checkpoint_above, is_artifact
from masc.compiler.files.writing import check_file, check_folder
from masc.compiler.resolve.imports import read_program
from masc.dsl.diagnostics import MascError, fail
from masc.session.programs import compile_remembering

_REPORTS = frozenset({"runs", "table.md", "table.csv", "table.json"})
_RUN = re.compile(r"[a-z]+(-tuned)?-[0-9a-f]{12}")
"""What the folder of a run is called in `runs/` of a comparison: its row, and a hash."""


def check_outputs(
    outputs: Mapping[str, Path | None],
    source: Path,
    given: Mapping[str, Path | None] | None = None,
    sets: Mapping[str, str] | None = None,
) -> None:
    """E0612 where a file that a command is to write cannot be written, is one that it reads (the source, what that
    imports, the rows that it names), is another of its outputs, or lies in an artifact, in the folder of a model or in
    what training keeps.

    outputs, given: files by what they are called on the command line, those that it writes and those that it reads.
    None: it was not given. sets: what `--set` says.
    """
    chosen = {name: path for name, path in outputs.items() if path is not None}
    if not chosen:
        return
    inputs = {f"`{name}`": path for name, path in (given or {}).items() if path is not None}
    read_by_it = [*inputs.items(), *_read_by(source, sets or {})]
    for i, (name, path) in enumerate(chosen.items()):
        check_file(path)
        for what, other in read_by_it:
            if _same(path, other):
                raise _refused(path, f"it is {what}, which is read")
        for other_name, other in [*chosen.items()][:i]:
            if _same(path, other):
                raise _refused(path, f"`{other_name}` and `{name}` are the same file")
        if whose := _owner(path):
            raise _refused(path, f"it lies in {whose}")


def check_table_folder(out: Path, source: Path) -> None:
    """E0612, E0518 where a comparison may not write into a folder: that of the source itself, one in an artifact or a
    model, one that holds what no comparison has put there."""
    check_folder(out)
    if _same(out, source.absolute().parent):
        raise _refused(out, f"it is the folder of `{source.name}` itself", "name another folder with -o")
    if whose := _owner(out / "table.json"):
        raise _refused(out, f"it lies in {whose}", "name another folder with -o")
    if out.is_dir() and (names := {path.name for path in out.iterdir()}) and not _is_table_folder(out, names):
        message = f"`{out}` is neither empty nor the folder of an earlier comparison: it holds `{min(names)}`"
        raise fail("E0518", message, hint="name a new or empty folder with -o")


def _is_table_folder(out: Path, names: set[str]) -> bool:
    """By its runs: they are there from the first one on, and are called as nobody else calls a folder."""
    runs = [path.name for path in (out / "runs").iterdir()] if (out / "runs").is_dir() else []
    return any(map(_RUN.fullmatch, runs)) or (not runs and names <= _REPORTS)


def _refused(path: Path, why: str, hint: str = "name another file") -> MascError:
    return fail("E0612", f"cannot write `{path}`: {why}", hint=hint)


def _same(one: Path, other: Path) -> bool:
    """Whether two paths are one file, by links of either kind; neither need be there yet."""
    if os.path.realpath(one) == os.path.realpath(other):
        return True
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def _read_by(source: Path, sets: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    """The files that a source is made of, and those of rows that it names. What is wrong in it, others say."""
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
            if written is not None:
                yield f"the program's `{name}`", compilation.base / written


def _owner(path: Path) -> str | None:
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
