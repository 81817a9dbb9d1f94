"""The server: OpenAI's interface to programs, over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from masc.dsl.diagnostics import did_you_mean
from masc.serving import asked
from masc.serving.door import Door
from masc.serving.errors import RefusalError, refusal_of, wrong
from masc.serving.exchange import Exchange
from masc.serving.metrics import Metrics
from masc.serving.replies import ChatReply, CompletionReply, Reply, ResponseReply
from masc.serving.served import Served
from masc.version import __version__


@dataclass(frozen=True)
class Limits:
    """seconds: until a request must be answered; size: bytes of its body."""

    seconds: float = 300
    size: int = 1 << 20


def app_of(models: Sequence[Served], limits: Limits, key: str | None = None, log: bool = False) -> Door:
    """What serves some programs. key: clients must give it; log: a line on standard error for each request."""
    metrics = Metrics(models)
    named = {model.name: model for model in models}

    @asynccontextmanager
    async def running(_: FastAPI) -> AsyncIterator[None]:
        for model in models:
            model.worker.start()
        try:
            yield
        finally:
            for model in models:
                model.worker.close()

    app = FastAPI(
        title="masc",
        version=__version__,
        lifespan=running,
        docs_url=None,
        redoc_url=None,
        exception_handlers={
            RefusalError: _refused,
            RequestValidationError: _invalid,
            HTTPException: _refused_by_others,
            Exception: _failed,
        },
    )

    def exchange(body: asked.Body, kind: type[Reply]) -> Response:
        question = body.question()
        return Exchange(question, _named(named, question.model), kind(question), limits.seconds, metrics)

    async def chat(body: asked.Chat) -> Response:
        return exchange(body, ChatReply)

    async def completions(body: asked.Completion) -> Response:
        return exchange(body, CompletionReply)

    async def responses(body: asked.Response) -> Response:
        return exchange(body, ResponseReply)

    async def list_models() -> dict[str, Any]:
        return {"object": "list", "data": [_about(model) for model in models]}

    async def one_model(name: str) -> dict[str, Any]:
        return _about(_named(named, name))

    async def health() -> Response:
        alive = all(model.worker.alive for model in models)
        return JSONResponse({"status": "ok" if alive else "failed"}, 200 if alive else 503)

    async def counted() -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    posted: dict[str, Callable[..., Any]] = {
        "/v1/chat/completions": chat,
        "/v1/completions": completions,
        "/v1/responses": responses,
    }
    shown: dict[str, Callable[..., Any]] = {
        "/v1/models": list_models,
        "/v1/models/{name}": one_model,
        "/health": health,
        "/metrics": counted,
    }
    for method, answers in (("POST", posted), ("GET", shown)):
        for path, answer in answers.items():
            app.add_api_route(path, answer, methods=[method])
    return Door(app, metrics, key, limits.size, log)


def _about(model: Served) -> dict[str, Any]:
    """An entry of the list of models. inputs, outputs: of its graph."""
    about = {"id": model.name, "object": "model", "created": model.created, "owned_by": "masc"}
    return {**about, "inputs": list(model.used), "outputs": list(model.plan.outputs)}


def _named(models: Mapping[str, Served], name: str) -> Served:
    if name not in models:
        hint = did_you_mean(name, list(models)) or f"there are {', '.join(models)}"
        raise RefusalError(404, f"there is no model `{name}`: {hint}", "model", "model_not_found")
    return models[name]


# -- every error is an object as OpenAI's clients expect it -----------------------------------------------------------


async def _refused(_: Request, error: RefusalError) -> Response:
    return error.response()


async def _invalid(_: Request, error: RequestValidationError) -> Response:
    found = error.errors()[0]
    if found["type"] == "json_invalid":
        return wrong("body", f"the body is no JSON: {found['ctx']['error']}").response()
    place = [str(part) for part in found["loc"] if part != "body"]
    where = ".".join(place) or "the body (its content type must be application/json)"
    return wrong(place[0] if place else "body", f"{where}: {found['msg']}").response()


async def _refused_by_others(_: Request, error: HTTPException) -> Response:
    return RefusalError(error.status_code, str(error.detail), headers=error.headers).response()


async def _failed(_: Request, error: Exception) -> Response:
    return refusal_of(error).response()
