"""Commands that show a graph: draw."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from masc.commands.options import File, Sets, read_sets, require
from masc.terminal.console import say
from masc.terminal.streams import can_print


def draw(
    file: File = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="x.svg, .png, .pdf, .mmd, .dot, .txt or .html")
    ] = None,
    set_: Sets = None,
    audit: Annotated[
        Path | None, typer.Option(help="JSON of `masc audit`: edges as thick as what they carry, idle ones grey")
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Serve a page that follows the file as it is saved")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the page; 0: a free one")] = 0,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in a browser")] = False,
) -> None:
    """Draw a graph: into a file, as a page that follows it (--watch), or else as text on the terminal. Of a trained
    artifact, how far the gates of its edges are open stands on them."""
    from masc.compiler.artifact import locate
    from masc.session.programs import graph_of

    require("it has no file to write" if watch and out else None, "--watch")
    require("not together with --watch" if watch and audit else None, "--audit")
    require("only with --watch" if port and not watch else None, "--port")
    require("only with --watch" if open_ and not watch else None, "--open")
    path, sets = locate(file, Path()), read_sets(set_)
    if watch:
        return _watch(path, sets, port, open_)

    from masc.backends.diagram import draw as draw_graph
    from masc.backends.diagram import text
    from masc.session.outputs import check_outputs
    from masc.studies.auditing import weights_of

    if out is not None:
        check_outputs({"-o": out}, path, {"--audit": audit}, sets)
    weights = None if audit is None else weights_of(audit)
    graph = graph_of(path, sets)
    if out is None:
        drawn = text(graph, weights)
        print(drawn if can_print(drawn) else text(graph, weights, ascii=True))
        return None
    draw_graph(graph, out, weights=weights)
    say(f"{path} -> {out}")
    return None


def _watch(path: Path, sets: dict[str, str], port: int, open_: bool) -> None:
    import webbrowser

    from masc.serving.live_page import watch
    from masc.session.programs import compile_source_of

    def listen(address: str) -> None:
        print(address, flush=True)
        say(f"drawing {path} there; Ctrl-C stops")
        if open_:
            webbrowser.open(address)

    try:
        watch(path, lambda: compile_source_of(path, sets), port, listen)
    except OSError as error:
        require(f"cannot listen there: {error.strerror or error}", "--port")
