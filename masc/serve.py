"""A drawing that follows its file: a page on this machine alone, redrawn whenever the file or one that it imports is
saved."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from masc.backends.diagram.page import drawings, page, told
from masc.compiler.imports import read_program
from masc.compiler.pipeline import Compilation
from masc.dsl.diagnostics import MascError, errors
from masc.dsl.render import render

HOST = "127.0.0.1"
PAUSE = 0.3
"""Seconds between looks at the files."""
BEAT = 15.0
"""Seconds after which a silent connection is tried, so that one that is gone is noticed."""

BLANK: dict[str, Any] = {"titles": [], "panels": {}, "drawings": [], "problems": "", "status": "drawing…"}
"""What the page shows before anything is drawn."""

Stamps = dict[Path, tuple[int, int] | None]


class Board:
    """What the page shows at this moment; readers wait for the next change."""

    def __init__(self, **state: Any) -> None:
        self._changed = threading.Condition()
        self._version = 0
        self.state = state

    def publish(self, **news: Any) -> None:
        with self._changed:
            kept = self.state  # what is equal stays the same object: it need not be sent again
            self.state = {**kept, **{name: value for name, value in news.items() if kept.get(name) != value}}
            self._version += 1
            self._changed.notify_all()

    def wait(self, seen: int) -> tuple[int, dict[str, Any]]:
        """Version and state as soon as the version is another than `seen`, or after a while all the same."""
        with self._changed:
            self._changed.wait_for(lambda: self._version != seen, BEAT)
            return self._version, self.state


def watch(path: Path, look: Callable[[], Compilation], port: int, listen: Callable[[str], None]) -> None:
    """Serve the page of a file until interrupted. look: compiles it; port 0: a free one; listen: is told the address.

    Raises OSError where the port cannot be had.
    """
    board = Board(name=path.stem, **BLANK)
    stopped = threading.Event()
    with Server(board, port) as server:
        listen(f"http://{HOST}:{server.server_port}/")
        painter = threading.Thread(target=paint, args=(path, look, board, stopped), daemon=True)
        painter.start()
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            pass
        finally:
            stopped.set()


class Server(ThreadingHTTPServer):
    """Only this machine is answered, and only where it was called by its own name: a page of somebody else's whose name
    was made to point here gets nothing."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, board: Board, port: int) -> None:
        super().__init__((HOST, port), Handler)
        self.board = board
        self.names = {f"{name}:{self.server_port}" for name in (HOST, "localhost")}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that hangs up is nothing to talk about."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        if self.headers.get("Host") not in self.server.names:
            self.send_error(403, "Called by a foreign name")
        elif self.path == "/":
            self._page()
        elif self.path == "/events":
            self._events()
        else:
            self.send_error(404)

    def _page(self) -> None:
        state = dict(self.server.board.state)
        body = page(state, state.pop("drawings"), live=True).encode()
        self._head("text/html; charset=utf-8", ("Content-Length", str(len(body))))
        self.wfile.write(body)

    def _events(self) -> None:
        """Whatever changes, as it does, until the browser goes."""
        self._head("text/event-stream")
        version, sent = -1, dict[str, Any]()
        while True:
            version, state = self.server.board.wait(version)
            news = {name: value for name, value in state.items() if sent.get(name) is not value}
            self.wfile.write(f"data: {json.dumps(news)}\n\n".encode() if news else b": still here\n\n")
            sent = state

    def _head(self, kind: str, *more: tuple[str, str]) -> None:
        self.send_response(200)
        for name, value in (
            ("Content-Type", kind),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("Content-Security-Policy", "frame-ancestors 'none'"),
            *more,
        ):
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are nothing to talk about either."""


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
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size
