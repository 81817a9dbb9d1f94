"""Commands that show a graph: draw."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from masc.commands.options import File, Sets, read_sets
from masc.console import say
from masc.dsl.diagnostics import MascError, errors


def draw(
    file: File = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="x.svg, .png, .pdf, .mmd, .dot or .txt")] = None,
    set_: Sets = None,
) -> None:
    """Draw a graph; without -o as text on the terminal."""
    from masc.backends.diagram import draw as draw_graph
    from masc.backends.diagram import text
    from masc.compiler.artifact import locate
    from masc.session import compile_source_of

    path = locate(file, Path())
    compilation = compile_source_of(path, read_sets(set_))
    if compilation.graph is None or errors(compilation.diagnostics):
        raise MascError(compilation.diagnostics)
    if out is None:
        print(text(compilation.graph))
        return
    draw_graph(compilation.graph, out)
    say(f"{path} -> {out}")
