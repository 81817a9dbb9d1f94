"""What Python's functions are given, as commands read it: paths, edges, values of `set`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from masc.compiler.ir.plan import Mode
from masc.dsl.diagnostics import Diagnostic, MascError

if TYPE_CHECKING:
    from masc.compiler.ir.graph import Graph
    from masc.compiler.pipeline import Compilation

Path_ = str | Path
Cuts = str | Sequence[str | tuple[str, str]]
"""Edges that carry nothing: pairs (sender, receiver), or texts such as "a:b"; one of them, or several."""


def graph_at(path: Path, set: Mapping[str, Any] | None) -> Graph:
    compilation = compilation_at(path, set)
    if compilation.graph is None:
        raise MascError(compilation.diagnostics)
    return compilation.graph


def compilation_at(
    path: Path_, set: Mapping[str, Any] | None, cut: tuple[tuple[str, str], ...] = (), channel: Mode = "graph"
) -> Compilation:
    from masc.compiler.pipeline import compile_file

    if channel not in ("graph", "text"):
        raise ValueError(f"channel = {channel!r} is neither 'graph' nor 'text'")
    return compile_file(file_at(path), texts_of(set), cut, channel=channel)


def findings_at(path: Path_, set: Mapping[str, Any] | None) -> Sequence[Diagnostic]:
    """What can be said of a file's text, or why there is no file in a folder."""
    try:
        return compilation_at(path, set).of_the_text
    except MascError as error:
        return error.diagnostics


def file_at(path: Path_) -> Path:
    """A file, or the one program in a folder (E0515, E0516); an artifact stays what it is, for `masc.load` opens it."""
    from masc.compiler.artifact import is_artifact, locate

    path = Path(path)
    return locate(path) if path.is_dir() and not is_artifact(path) else path


def edges_of(cut: Cuts) -> tuple[tuple[str, str], ...]:
    """Pairs (sender, receiver); one of them alone will do, and so will texts such as "a:b"."""
    if isinstance(cut, str):
        cut = [cut]
    elif len(cut) == 2 and all(isinstance(name, str) and ":" not in name for name in cut):
        cut = [(str(cut[0]), str(cut[1]))]
    pairs = [tuple(edge.split(":")) if isinstance(edge, str) else tuple(edge) for edge in cut]
    for pair in pairs:
        if len(pair) != 2 or not all(isinstance(name, str) and name for name in pair):
            raise ValueError(
                f'`cut` takes pairs (sender, receiver), or texts such as "a:b"; not {":".join(map(str, pair))!r}'
            )
    return tuple((sender, receiver) for sender, receiver in pairs)


def step_of(checkpoint: int | str | None) -> str | None:
    return None if checkpoint is None else str(checkpoint)


def path_of(path: Path_ | None) -> Path | None:
    return None if path is None else Path(path)


def texts_of(set: Mapping[str, Any] | None) -> dict[str, str]:
    if not isinstance(set, Mapping | None):
        raise TypeError(f'`set` is a dict, such as {{"steps": 20}}, not {set!r}')
    return {name: text_of(value) for name, value in (set or {}).items()}


def text_of(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
