"""One request while it is answered: whole or as a stream, for as long as the client is there and there is time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable

from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from masc.serving.asked import Question
from masc.serving.choices import Choice
from masc.serving.errors import RefusalError, refusal_of
from masc.serving.metrics import Metrics
from masc.serving.replies import Reply
from masc.serving.served import Served
from masc.serving.worker import Inbox, Wish

_STREAM = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]


class Exchange(Response):
    """The response to a question. Its rows are dropped once the client hangs up, or when the time is over (504)."""

    def __init__(self, question: Question, served: Served, reply: Reply, seconds: float, metrics: Metrics) -> None:
        super().__init__()
        self.question, self.served, self.reply, self.seconds, self.metrics = question, served, reply, seconds, metrics
        self.begun = time.monotonic()
        self.streaming = False
        sampling = question.decoding.of(served.answer).sampling
        rows = [served.row(messages, question.inputs) for messages in question.conversations]
        self.wishes = [
            Wish(row, sample, question.decoding, question.stream) for row in rows for sample in range(question.samples)
        ]
        scored = question.logprobs
        self.choices = [Choice(i, served.base, sampling, scored) for i in range(len(self.wishes))]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answering = asyncio.ensure_future(self._timed(scope, receive, send))
        gone = asyncio.ensure_future(_gone(receive))
        try:
            await asyncio.wait({answering, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                self.metrics.gone.labels(self.served.name).inc()
                return
            await answering
        finally:
            for task in (answering, gone):
                task.cancel()
            await asyncio.gather(answering, gone, return_exceptions=True)

    async def _timed(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with asyncio.timeout(self.seconds):
                with self.served.worker.asking(self.wishes) as inbox:
                    await (self._stream(inbox, send) if self.question.stream else self._whole(inbox))
            if not self.question.stream:
                await JSONResponse(self.reply.whole(self.choices))(scope, receive, send)
        except Exception as error:
            told = error if isinstance(error, RefusalError) else refusal_of(error)
            if isinstance(error, TimeoutError):
                told = RefusalError(504, f"there was no whole answer within {self.seconds:g} seconds", code="timeout")
            if not self.streaming:
                raise told from error
            await _write(send, self.reply.failed(told), more=False)

    async def _whole(self, inbox: Inbox) -> None:
        while any(choice.finish is None for choice in self.choices):
            for place, news in (await inbox.next()).items():
                self.choices[place].grow(news, self.served.plan.outputs)
                self._count(self.choices[place])

    async def _stream(self, inbox: Inbox, send: Send) -> None:
        while any(choice.finish is None for choice in self.choices):
            found = await inbox.next()
            events: list[str] = []
            if not self.streaming:  # only now: what fails before anything is said has a status of its own
                self.streaming = True
                self.metrics.first.labels(self.served.name).observe(time.monotonic() - self.begun)
                headers = [*self.raw_headers, *_STREAM]
                kept = [(name, value) for name, value in headers if name != b"content-length"]
                await send({"type": "http.response.start", "status": 200, "headers": kept})
                events += self.reply.begin(self.choices)
            for place, news in found.items():
                choice = self.choices[place]
                events += self.reply.piece(choice, *choice.grow(news, self.served.plan.outputs))
                self._count(choice)
            await _write(send, events)
        await _write(send, self.reply.end(self.choices), more=False)

    def _count(self, choice: Choice) -> None:
        if choice.finish is not None:
            self.metrics.prompt.labels(self.served.name).inc(choice.prompt)
            self.metrics.said.labels(self.served.name).inc(choice.said)


async def _write(send: Send, events: Iterable[str], more: bool = True) -> None:
    body = "".join(events).encode()
    if body or not more:
        await send({"type": "http.response.body", "body": body, "more_body": more})


async def _gone(receive: Receive) -> None:
    """Until the client hangs up."""
    while (await receive())["type"] != "http.disconnect":
        pass
