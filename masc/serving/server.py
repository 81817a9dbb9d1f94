"""Serving until told to stop: then running requests are finished."""

from __future__ import annotations

import contextlib
import ipaddress
import signal
import socket
from collections.abc import Iterator
from types import FrameType

import uvicorn

from masc.serving import listening
from masc.serving.door import Door

MOST = 1024
"""Connections at once; further ones are told so (503)."""


def is_loopback(host: str) -> bool:
    """Whether only this machine can call an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def server(door: Door, place: socket.socket, grace: float) -> uvicorn.Server:
    """What serves on a socket; `run(sockets=[place])` until it is told to stop. grace: seconds that running requests
    have then."""
    host, port = place.getsockname()[:2]
    app = listening.OwnName(door, port) if is_loopback(host) else door
    return _Server(listening.config(app, MOST, grace), door)


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, door: Door) -> None:
        super().__init__(config)
        self._door = door

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._door.draining = True
        super().handle_exit(sig, frame)


@contextlib.contextmanager
def ending_well() -> Iterator[None]:
    """Within it, a signal that ended the server ends nothing more: uvicorn raises it again once it is through."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
