"""What `fast/live.py` does, by the exact engine: for programs that the fast one cannot run. Rows are answered one after
the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator

from masc.backends.torch.engine.fast.live import Answer, Growth, News
from masc.backends.torch.engine.fast.rows import Job
from masc.backends.torch.engine.modules import Modules
from masc.backends.torch.engine.outputs import Said, said_of
from masc.backends.torch.engine.walk import Walk
from masc.dsl.diagnostics import MascError


class Walking:
    """Rows that wait, and the first of them, which is being answered. Names as of `Live`."""

    def __init__(self, modules: Modules, output: str) -> None:
        self._modules, self._output = modules, output
        self._waiting: deque[tuple[Job, bool]] = deque()
        self._running: Generator[Growth, None, Answer] | None = None

    @property
    def open(self) -> list[int]:
        return [job.number for job, _ in self._waiting]

    def add(self, job: Job, watched: bool) -> None:
        self._waiting.append((job, watched))

    def drop(self, number: int) -> None:
        if self._waiting and self._waiting[0][0].number == number:
            self._running = None
        self._waiting = deque(entry for entry in self._waiting if entry[0].number != number)

    def advance(self) -> list[tuple[int, News]]:
        if not self._waiting:
            return []
        job, watched = self._waiting[0]
        self._running = self._running or self._answered(job)
        try:
            news: News = next(self._running)
        except StopIteration as end:
            news = end.value
        except MascError as error:
            news = error
        if isinstance(news, Growth):
            return [(job.number, news)] if watched else []
        self._waiting.popleft()
        self._running = None
        return [(job.number, news)]

    def _answered(self, job: Job) -> Generator[Growth, None, Answer]:
        walk = Walk(
            self._modules, [job.row], None, False, None, [job.index], None, job.decoding, [job.sample], cuts=True
        )
        said: dict[str, Said] = {}
        for turn in walk.steps():
            for state in walk.decode(turn):
                if turn.said == self._output:
                    yield Growth(tuple(state[0].ids), tuple(state[0].scores))
            (one,) = walk.finished(turn, state)
            text = walk.texts[turn.activation][0]
            said[turn.said] = said_of(text, one.ids, one.scores, one.cut, one.end)
        return Answer(said, sum(len(prompts[0].ids) for prompts in walk.prompts.values()))
