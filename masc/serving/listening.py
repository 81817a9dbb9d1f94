"""What listens: a socket, a uvicorn server on it, and who is let through."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

LOOPBACK = "127.0.0.1"
IDLE = 10.0
"""Seconds that a connection may take for its request."""
HEAD = 1 << 16
"""Bytes of a request before its body, at most."""


def bound(host: str, port: int, most: int) -> socket.socket:
    """A socket that listens. port 0: a free one; most: connections that may wait to be taken. OSError where the address
    cannot be had."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    place = socket.socket(family, kind, protocol)
    try:
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        place.bind(address)
        place.listen(most)
    except OSError:
        place.close()
        raise
    return place


def config(app: ASGIApp, most: int, grace: float, **options: Any) -> uvicorn.Config:
    """How uvicorn serves an app. most: connections that are answered at once; further ones are told so (503). grace:
    seconds that running requests have once it stops."""
    return uvicorn.Config(
        app,
        http=Patient,
        ws="none",
        interface="asgi3",
        access_log=False,
        log_level="critical",
        server_header=False,
        limit_concurrency=most,
        timeout_keep_alive=int(IDLE),
        timeout_graceful_shutdown=max(1, round(grace)),
        **options,
    )


class Patient(HttpToolsProtocol):
    """A connection that is closed where no whole request comes for a while, or a head without end: uvicorn waits for
    the first for ever, and keeps all of it."""

    _head: int | None = 0
    """Bytes of the head that is being read; None within a body."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.loop.call_later(IDLE, self._tire, None)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head = 0

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._head = None

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._head is not None and not self.transport.is_closing():
            self._head += len(data)
            if self._head > HEAD:
                self.send_400_response("Too large a head")

    def _tire(self, before: object) -> None:
        if self.transport.is_closing():
            return
        answering = self.cycle is not None and not self.cycle.response_complete
        if not answering and self.cycle is before:  # no request since the last look
            self.transport.close()
            return
        self.loop.call_later(IDLE, self._tire, self.cycle)


class OwnName:
    """Only who called this machine by its own name is answered: a page of somebody else whose name was made to point
    here gets nothing."""

    def __init__(self, app: ASGIApp, port: int) -> None:
        self.app = app
        self.names = frozenset(f"{name}:{port}".encode() for name in (LOOPBACK, "localhost"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            hosts = [value for name, value in scope["headers"] if name == b"host"]
            if len(hosts) != 1 or hosts[0] not in self.names:
                await PlainTextResponse("Called by a foreign name", 403)(scope, receive, send)
                return
        await self.app(scope, receive, send)
