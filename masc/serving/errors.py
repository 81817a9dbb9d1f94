"""What goes wrong with a request, as OpenAI's clients expect to be told."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

from masc.dsl.diagnostics import errors
from masc.terminal.foreign import translated

_KINDS = {401: "authentication_error", 429: "rate_limit_error"}


class RefusalError(Exception):
    """A request that is not answered. param: the parameter that is wrong."""

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        kind = _KINDS.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def response(self) -> JSONResponse:
        return JSONResponse(self.body, self.status, self.headers)


def wrong(param: str, message: str, code: str | None = None) -> RefusalError:
    """A parameter that cannot be."""
    return RefusalError(400, message, param, code)


def refusal_of(error: Exception) -> RefusalError:
    """Why an answer failed: for what the request says (400), or not (500)."""
    told = translated(error)
    if told is None:
        return RefusalError(500, f"the server failed: {type(error).__name__}")
    found = errors(told.diagnostics)[0]
    message = found.message + (f": {found.hint}" if found.hint else "")
    if found.code.startswith("E07"):
        return RefusalError(500, message, code=found.code)
    return wrong("messages", message, "context_length_exceeded" if found.code == "E0606" else found.code)
