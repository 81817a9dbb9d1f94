"""The thread that decodes for one program, and how the server's event loop talks with it.

Requests that come together are decoded together. Of an answer that grows only the newest state is kept for whoever
reads it: a slow reader gets larger pieces, and holds nobody up.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from masc.backends.torch.data.values import Row
from masc.backends.torch.engine.fast.live import Answer, Growth, Live, News
from masc.backends.torch.engine.fast.rows import Job
from masc.backends.torch.engine.walking import Walking
from masc.backends.torch.model import applying
from masc.backends.torch.program import Program
from masc.compiler.analysis.decoding import Decoding
from masc.serving.errors import RefusalError, refusal_of, wrong


@dataclass(frozen=True)
class Wish:
    """A row to answer. sample: which of the row's answers, from 0; watched: its answer is told as it grows."""

    row: Row
    sample: int
    decoding: Decoding
    watched: bool


class Inbox:
    """What is new of the rows of one request, by their place in it: the newest of each."""

    def __init__(self) -> None:
        self._news: dict[int, News | Exception] = {}
        self._some = asyncio.Event()

    def put(self, place: int, news: News | Exception) -> None:
        self._news[place] = news
        self._some.set()

    async def next(self) -> dict[int, Growth | Answer]:
        """What has come since the last call; waits for something. RefusalError where one of the rows has failed."""
        await self._some.wait()
        self._some.clear()
        found: dict[int, Growth | Answer] = {}
        for place, news in self._news.items():
            if isinstance(news, Exception):
                raise refusal_of(news)
            found[place] = news
        self._news = {}
        return found


class Worker:
    """Decodes for one program. `asking` belongs to the event loop, all that begins with `_run` to the thread."""

    def __init__(self, program: Program, size: int, most: int) -> None:
        """size: rows decoded together; most: rows that may wait beside them."""
        self.size, self.most = size, most
        self._program = program
        self._numbers = itertools.count()
        self._open: dict[int, tuple[Inbox, int]] = {}
        self._added: list[tuple[Job, bool]] = []
        self._dropped: list[int] = []
        """What the thread has not heard of yet."""
        self._changed = threading.Condition()
        self._closing = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin, in the event loop that will ask."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def close(self) -> None:
        """Stop, whatever is running."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @property
    def rows(self) -> int:
        """Rows that are decoded or wait."""
        return len(self._open)

    @contextmanager
    def asking(self, wishes: Sequence[Wish]) -> Iterator[Inbox]:
        """Within it these rows are answered; what is not done at its end is dropped. RefusalError where they are too
        many (400), or too many wait (429)."""
        room = self.size + self.most
        if len(wishes) > room:
            raise wrong("n", f"{len(wishes)} answers are asked for at once: at most {room} can be")
        if len(self._open) + len(wishes) > room:
            raise RefusalError(429, "too many requests wait already: try again later", headers={"Retry-After": "1"})
        inbox = Inbox()
        jobs = [(Job(next(self._numbers), wish.row, 0, wish.sample, wish.decoding), wish.watched) for wish in wishes]
        self._open |= {job.number: (inbox, place) for place, (job, _) in enumerate(jobs)}
        self._tell(add=jobs)
        try:
            yield inbox
        finally:
            left = [job.number for job, _ in jobs if self._open.pop(job.number, None)]
            if left:
                self._tell(drop=left)

    def _tell(self, add: Sequence[tuple[Job, bool]] = (), drop: Sequence[int] = ()) -> None:
        with self._changed:
            self._added += add
            self._dropped += drop
            self._changed.notify()

    def _deliver(self, news: Sequence[tuple[int, News | Exception]]) -> None:
        for number, item in news:
            if number in self._open:
                inbox, place = self._open[number] if isinstance(item, Growth) else self._open.pop(number)
                inbox.put(place, item)

    # -- the thread ------------------------------------------------------------------------------------------------

    def _fresh(self) -> Live | Walking:
        output = self._program.plan.outputs[-1]
        return Live(self._program, self.size, output) if self._program.flows else Walking(self._program, output)

    @torch.no_grad()
    def _run(self) -> None:
        live = self._fresh()
        with applying.still():
            while True:
                with self._changed:
                    while not (self._closing or self._added or live.open):
                        self._changed.wait()
                    if self._closing:
                        return
                    added, self._added = self._added, []
                    dropped, self._dropped = self._dropped, []
                for job in added:
                    live.add(*job)
                for number in dropped:
                    live.drop(number)
                news: list[tuple[int, News | Exception]] = []
                try:
                    news += live.advance() if live.open else []
                except Exception as error:  # whoever is there has failed; the next begin anew
                    traceback.print_exc()
                    news = [(number, error) for number in live.open]
                    live = self._fresh()
                if news:
                    assert self._loop is not None
                    self._loop.call_soon_threadsafe(self._deliver, news)
