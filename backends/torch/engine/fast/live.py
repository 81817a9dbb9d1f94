"""A pipeline to which rows are added while it runs, and out of which they may be taken: what a server decodes with.

One thread owns it. Whoever calls `advance` again and again hears what has become of the rows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from masc.backends.torch.engine.fast.pipeline import Answering, Pipeline
from masc.backends.torch.engine.fast.rows import Job, Travelling
from masc.backends.torch.engine.modules import Modules
from masc.backends.torch.engine.outputs import Said
from masc.dsl.diagnostics import MascError

_MANY = 1 << 30
"""Rows in all: nobody knows how many there will be."""


@dataclass(frozen=True)
class Growth:
    """An answer so far: its tokens, and the log-probability of each."""

    ids: Sequence[int]
    scores: Sequence[float]


@dataclass(frozen=True)
class Answer:
    """What was said for a row, by output (`Turn.said`), and how many tokens all its prompts hold."""

    said: Mapping[str, Said]
    prompt: int


News = Growth | Answer | MascError
"""Of a row: more of its answer, all of it, or why there is none."""


class Waiting:
    """Rows that have not begun yet, in the order in which they came."""

    def __init__(self) -> None:
        self.rows: deque[Travelling] = deque()

    def take(self, count: int) -> list[Travelling]:
        found: list[Travelling] = []
        while self.rows and len(found) < count:
            row = self.rows.popleft()
            if not row.over:
                found.append(row)
        return found


class Live(Pipeline):
    """Rows flow through a plan as they come; every answer that reaches the model's last position ends there."""

    live = True

    def __init__(self, modules: Modules, size: int, output: str) -> None:
        """size: rows at once in each stage that answers. output: the one that is told as it grows."""
        self._waiting = Waiting()
        self._rows: dict[int, Travelling] = {}
        self._watched: set[int] = set()
        self._failed: list[tuple[int, MascError]] = []
        super().__init__(modules, self._waiting, _MANY, size, cuts=True)
        self._output = output
        self._answering = [stage for stage in self.stages if isinstance(stage, Answering)]
        self._writing = self.writing(output)

    @property
    def open(self) -> list[int]:
        """The numbers of the rows that are neither through nor dropped."""
        return list(self._rows)

    def add(self, job: Job, watched: bool) -> None:
        """A row that waits from now on. Its number is not that of another one. watched: its answer is told as it
        grows."""
        row = Travelling(job)
        self._rows[job.number] = row
        self._waiting.rows.append(row)
        if watched:
            self._watched.add(job.number)

    def drop(self, number: int) -> None:
        """Nobody wants a row's answer any more: its place is free from the next `advance` on. One that is through
        already is no error."""
        if number in self._rows:
            self._forget(number).over = True

    def advance(self) -> list[tuple[int, News]]:
        """Let rows in, decode a few tokens in each stage, and tell what is new, by the rows' numbers."""
        for stage in reversed(self._answering):
            stage.advance()
        news: list[tuple[int, News]] = []
        for seat in self._writing.pool.seats:
            number = seat.one.row.job.number
            if number in self._watched and seat.one.turn.said == self._output:
                news.append((number, Growth(tuple(seat.ids), tuple(seat.scores))))
        for row in self._answering[-1].take(self.size):
            self._forget(row.job.number)
            prompt = sum(stretch.prompt for stretch in row.stretches.values())
            news.append((row.job.number, Answer(self.said(row), prompt)))
        news += self._failed
        self._failed = []
        return news

    def _forget(self, number: int) -> Travelling:
        self._watched.discard(number)
        return self._rows.pop(number)

    def admit(self, rows: Sequence[Travelling], enter: Callable[[Sequence[Travelling]], None]) -> None:
        """Let rows into a stage. Where they cannot enter together each enters alone, so that one that cannot be
        answered is in nobody's way."""
        try:
            enter(rows)
        except MascError as error:
            if len(rows) == 1:
                self.fail(rows[0], error)
                return
            for row in rows:
                self.admit([row], enter)

    def fail(self, row: Travelling, error: MascError) -> None:
        if not row.over:
            self._forget(row.job.number).over = True
            self._failed.append((row.job.number, error))
