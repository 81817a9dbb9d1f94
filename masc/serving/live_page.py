"""A drawing that follows its file: a page on this machine alone, redrawn whenever the file or one that it imports is
saved."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import uvicorn

from masc.backends.diagram.page import drawings, page, told
from masc.compiler.pipeline import Compilation
from masc.compiler.resolve.imports import read_program
from masc.dsl.diagnostics import MascError, errors
from masc.dsl.render import render
from masc.serving import board as boards
from masc.serving import listening
from masc.serving.board import Board

PAUSE = 0.3
"""Seconds between looks at the files."""
BLANK: dict[str, Any] = {"titles": [], "panels": {}, "drawings": [], "problems": "", "status": "drawing…"}
"""What the page shows before anything is drawn."""

Stamps = dict[Path, tuple[int, int] | None]


def watch(path: Path, look: Callable[[], Compilation], port: int, listen: Callable[[str], None]) -> None:
    """Serve the page of a file until interrupted. look: compiles it; port 0: a free one; listen: is told the address.

    Raises OSError where the port cannot be had.
    """
    board = Board(name=path.stem, **BLANK)
    stopped = threading.Event()
    with listening.bound(listening.LOOPBACK, port, boards.MOST) as place:
        listen(f"http://{listening.LOOPBACK}:{place.getsockname()[1]}/")
        painter = threading.Thread(target=paint, args=(path, look, board, stopped), daemon=True)
        painter.start()
        try:
            server(board, place).run(sockets=[place])
        except KeyboardInterrupt:
            pass
        finally:
            stopped.set()


def server(board: Board, place: socket.socket) -> uvicorn.Server:
    """What serves the board on a socket; `run(sockets=[place])` until `should_exit`."""
    return boards.server(board, place, lambda state: page(state, state.pop("drawings"), live=True))


# -- the painter -------------------------------------------------------------------------------------------------------


def paint(path: Path, look: Callable[[], Compilation], board: Board, stopped: threading.Event) -> None:
    """Draw what the files hold onto the board, whenever one of them changes, until stopped."""
    seen: Stamps = {}
    files = [path]
    while True:
        now = _stamps(files)
        if now != seen:
            try:
                files = _draw(path, look(), board) or files
            except MascError as error:
                board.publish(problems=render(error.diagnostics), status="")
            except Exception as error:  # the next save may mend it
                board.publish(problems=f"this cannot be drawn: {type(error).__name__}: {error}", status="")
            # A file not known before may have changed since it was read: it counts as changed, and is read again.
            seen = {file: now.get(file) for file in files}
        if stopped.wait(PAUSE):
            return


def _draw(path: Path, compilation: Compilation, board: Board) -> list[Path]:
    """Put a compilation onto the board; returns the files that it was made from, none where that is not known."""
    graph, found = compilation.graph, compilation.diagnostics
    if graph is None or errors(found):
        board.publish(
            problems=render(found), status="the last drawing without errors" if board.state["drawings"] else ""
        )
    else:
        board.publish(status="drawing…")
        warnings = [d for d in found if d.severity == "warning"]
        status = f"{len(warnings)} warning{'s' * (len(warnings) > 1)}: see masc check" if warnings else ""
        board.publish(**told(graph), drawings=list(drawings(graph)), problems="", status=status)
    return _files(path, compilation)


def _files(path: Path, compilation: Compilation) -> list[Path]:
    """The file and all that it imports, those too that are not there yet."""
    if compilation.file is None:
        return []
    program, _ = read_program(compilation.file, path, compilation.base)
    missing = [
        module.folder / str(node.path.value)
        for module in program.modules
        for node, target in module.imports
        if target is None
    ]
    return list(dict.fromkeys([path, *(Path(source.path) for source in program.importers), *missing]))


def _stamps(files: Iterable[Path]) -> Stamps:
    return {file: _stamp(file) for file in files}


def _stamp(file: Path) -> tuple[int, int] | None:
    try:
        status = file.stat()
    except (OSError, ValueError):  # ValueError: what is imported has the name of no file
        return None
    return status.st_mtime_ns, status.st_size
