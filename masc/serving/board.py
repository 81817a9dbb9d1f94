"""A page on this machine alone that changes while it is open: its state, and the server that sends what is new."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route

from masc.serving import listening

LOOK = 0.1
"""Seconds between looks of an open page at its state."""
BEAT = 15.0
"""Seconds after which a silent connection is tried, so that one that is gone is noticed."""
MOST = 64
"""Connections that are answered at once; further ones are told so (503)."""


class Board:
    """What the page shows at this moment. A state is never changed, but replaced by the next."""

    def __init__(self, **state: Any) -> None:
        self.state = state

    def publish(self, **news: Any) -> None:
        kept = self.state  # what is equal stays the same object: it need not be sent again
        self.state = {**kept, **{name: value for name, value in news.items() if kept.get(name) != value}}


def server(board: Board, place: socket.socket, page: Callable[[dict[str, Any]], str]) -> uvicorn.Server:
    """What serves a board on a socket; `run(sockets=[place])` until `should_exit`. page: the whole page of a state."""
    app = listening.OwnName(_app(board, page), place.getsockname()[1])
    return uvicorn.Server(listening.config(app, MOST, grace=1, lifespan="off"))


def _app(board: Board, page: Callable[[dict[str, Any]], str]) -> Starlette:
    async def whole(_: Request) -> Response:
        return HTMLResponse(page(dict(board.state)), headers=_HEADERS)

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
