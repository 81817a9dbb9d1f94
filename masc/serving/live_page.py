"""A drawing that follows its file: a page on this machine alone, redrawn whenever the file or one that it imports is
saved."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route

from masc.backends.diagram.page import drawings, page, told
from masc.compiler.pipeline import Compilation
from masc.compiler.resolve.imports import read_program
from masc.dsl.diagnostics import MascError, errors
from masc.dsl.render import render
from masc.serving import listening

PAUSE = 0.3
"""Seconds between looks at the files."""
LOOK = 0.1
"""Seconds between looks of an open page at what is drawn."""
BEAT = 15.0
"""Seconds after which a silent connection is tried, so that one that is gone is noticed."""
MOST = 64
"""Connections that are answered at once; further ones are told so (503)."""

BLANK: dict[str, Any] = {"titles": [], "panels": {}, "drawings": [], "problems": "", "status": "drawing…"}
"""What the page shows before anything is drawn."""

Stamps = dict[Path, tuple[int, int] | None]


class Board:
    """What the page shows at this moment. A state is never changed, but replaced by the next."""

    def __init__(self, **state: Any) -> None:
        self.state = state

    def publish(self, **news: Any) -> None:
        kept = self.state  # what is equal stays the same object: it need not be sent again
        self.state = {**kept, **{name: value for name, value in news.items() if kept.get(name) != value}}


def watch(path: Path, look: Callable[[], Compilation], port: int, listen: Callable[[str], None]) -> None:
    """Serve the page of a file until interrupted. look: compiles it; port 0: a free one; listen: is told the address.

    Raises OSError where the port cannot be had.
    """
    board = Board(name=path.stem, **BLANK)
    stopped = threading.Event()
    with listening.bound(listening.LOOPBACK, port, MOST) as place:
        listen(f"http://{listening.LOOPBACK}:{place.getsockname()[1]}/")
        painter = threading.Thread(target=paint, args=(path, look, board, stopped), daemon=True)
        painter.start()
        try:
            server(board, place).run(sockets=[place])
        except KeyboardInterrupt:
            pass
        finally:
            stopped.set()


# -- the server --------------------------------------------------------------------------------------------------------


def server(board: Board, place: socket.socket) -> uvicorn.Server:
    """What serves the board on a socket; `run(sockets=[place])` until `should_exit`."""
    app = listening.OwnName(_app(board), place.getsockname()[1])
    return uvicorn.Server(listening.config(app, MOST, grace=1, lifespan="off"))


def _app(board: Board) -> Starlette:
    async def whole(_: Request) -> Response:
        state = dict(board.state)
        return HTMLResponse(page(state, state.pop("drawings"), live=True), headers=_HEADERS)

    async def events(_: Request) -> Response:
        return StreamingResponse(_news(board), media_type="text/event-stream", headers=_HEADERS)

    return Starlette(routes=[Route("/", whole), Route("/events", events)])


_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "frame-ancestors 'none'",
}


async def _news(board: Board) -> AsyncIterator[str]:
    """Whatever changes, as it does, until the browser goes."""
    sent: dict[str, Any] = {}
    silent = 0.0
    while True:
        state = board.state
        if news := {name: value for name, value in state.items() if sent.get(name) is not value}:
            yield f"data: {json.dumps(news)}\n\n"
            sent, silent = state, 0.0
        elif silent >= BEAT:
            yield ": still here\n\n"
            silent = 0.0
        await asyncio.sleep(LOOK)
        silent += LOOK


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
