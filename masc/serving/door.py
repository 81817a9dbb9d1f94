"""What every request passes: its id, the key, limits on its size, and what is counted of it."""

from __future__ import annotations

import hmac
import re
import time

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from masc.serving.errors import RefusalError
from masc.serving.metrics import Metrics
from masc.serving.names import fresh_id
from masc.terminal.console import say

_ID = re.compile(rb"[!-~]{1,128}")
PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/models", "/health", "/metrics")


class Door:
    """An app behind it serves who may come in.

    key: what a client must know (None: nothing is asked), but for `/health`; most: bytes of a body. draining: the
    server is going down, and takes nothing new.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, key: str | None, most: int, log: bool) -> None:
        self.app, self.metrics, self.most, self.log = app, metrics, most, log
        self.key = None if key is None else f"Bearer {key}".encode()
        self.draining = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers: dict[bytes, bytes] = dict(scope["headers"])
        given = headers.get(b"x-request-id", b"")
        name = given if _ID.fullmatch(given) else fresh_id().encode()
        begun, status, size = time.monotonic(), 499, 0  # 499: nobody was there any more

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message = {**message, "headers": [*message["headers"], (b"x-request-id", name)]}
            await send(message)

        async def receiving() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self.most:
                raise HTTPException(413, self._too_large)
            return message

        try:
            refusal = self._refusal(scope["path"], headers)
            await (self.app if refusal is None else refusal.response())(scope, receiving, sending)
        except Exception:
            status = 500
            raise
        finally:
            path = scope["path"] if scope["path"] in PATHS else "other"
            seconds = time.monotonic() - begun
            self.metrics.requests.labels(path, str(status)).inc()
            self.metrics.seconds.labels(path).observe(seconds)
            if self.log:
                say(f"{scope['method']} {scope['path']} {status} {seconds:.3f}s {name.decode()}")

    @property
    def _too_large(self) -> str:
        return f"a request may have {self.most:,} bytes at most"

    def _refusal(self, path: str, headers: dict[bytes, bytes]) -> RefusalError | None:
        """Why a request is not let in."""
        given = headers.get(b"authorization", b"")
        if self.key is not None and path != "/health" and not hmac.compare_digest(given, self.key):
            return RefusalError(401, "this server asks for an API key, and this is not it", code="invalid_api_key")
        if self.draining:
            return RefusalError(503, "the server is going down", headers={"Connection": "close"})
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self.most:
            return RefusalError(413, self._too_large, headers={"Connection": "close"})
        return None
