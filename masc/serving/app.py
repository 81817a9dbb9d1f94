"""The server: OpenAI's interface to programs, over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from masc.dsl.diagnostics import did_you_mean
from masc.serving import asked
from masc.serving.door import PATHS, Door
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
    faults = [(_place(fault["loc"][1:], error.body), fault) for fault in error.errors()]
    place, fault = max(faults, key=lambda one: len(one[0]))  # the deepest: of a union, the kind that was meant
    if fault["type"] == "json_invalid":
        told = f"the body is no JSON: {fault['ctx']['error']}, behind {fault['loc'][-1]} characters"
        return wrong("body", told).response()
    if fault["type"] == "missing" and isinstance(error.body, dict):
        name = str(fault["loc"][-1])
        near = [other for other in list(error.body)[:100] if did_you_mean(other, [name])]
        told = f"there is no parameter `{near[0]}`: did you mean `{name}`?" if near else f"`{name}` is not given"
        return wrong(near[0] if near else name, told, "unknown_parameter" if near else None).response()
    where = ".".join(place)
    told = f"`{where}`" if where else "the body (its content type must be application/json)"
    return wrong(where or "body", f"{told}: {fault['msg'][:1].lower()}{fault['msg'][1:]}").response()


def _place(parts: Sequence[int | str], body: Any) -> list[str]:
    """Where a fault is in a body: without the names of the kinds that a value may have, which are no part of it."""
    found = []
    for part in parts:
        with suppress(LookupError, TypeError):
            body = body[part]
            found.append(str(part))
    return found


async def _refused_by_others(request: Request, error: HTTPException) -> Response:
    path, message = request.url.path, str(error.detail)
    if error.status_code == 404:
        hint = did_you_mean(path, PATHS) or f"there are {', '.join(PATHS)}"
        message = f"there is no path `{path}`: {hint}"
    elif error.status_code == 405:
        message = f"`{path}` is not for {request.method}, but for {(error.headers or {}).get('allow', 'POST')}"
    return RefusalError(error.status_code, message, headers=error.headers).response()


async def _failed(_: Request, error: Exception) -> Response:
    return refusal_of(error).response()
