"""Rows flow through the stages of a plan; each stage pulls rows from the one before it.

A stage is the turns of one wave that can run in one batch. One that answers nothing takes what it is asked for, runs it
and hands it on. One that answers keeps its pool of slots full, so that short answers do not wait for long ones. At any
time there are at most `size` rows in each stage that answers, and as many on their way.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Protocol
from weakref import WeakMethod, ref

import torch

from masc.backends.torch.engine.fast.adapters import Adapting, adapting
from masc.backends.torch.engine.fast.answering import LOOK, Pool, Seat
from masc.backends.torch.engine.fast.rows import Job, Travelling
from masc.backends.torch.engine.fast.writing import Writer
from masc.backends.torch.engine.modules import Modules
from masc.backends.torch.engine.outputs import Said
from masc.backends.torch.engine.refusals import no_numbers
from masc.backends.torch.model.cache import Slots
from masc.compiler.analysis.sights import sights
from masc.compiler.analysis.waves import needed, stages
from masc.compiler.ir.plan import Turn
from masc.dsl.diagnostics import MascError

PATIENCE = 2
"""Looks after which a live pipeline lets rows in, though less than a quarter of the slots is free: none of them waits
for long, and no prompt is read alone where many wait."""


class Upstream(Protocol):
    def take(self, count: int) -> list[Travelling]:
        """The next rows, so many; fewer only where there are no more (in a live pipeline: none at the moment)."""
        ...


class Source:
    """Rows that have not begun yet."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self._jobs = iter(jobs)

    def take(self, count: int) -> list[Travelling]:
        return [Travelling(job) for _, job in zip(range(count), self._jobs, strict=False)]


class Parting:
    """Hands rows on to a stage that answers: one whose answer is sampled there once for each answer that is wanted."""

    def __init__(self, upstream: Upstream, turns: Sequence[Turn]) -> None:
        self._upstream = upstream
        self._answers = [turn.answer for turn in turns if turn.answer is not None]
        self._ready: list[Travelling] = []

    def take(self, count: int) -> list[Travelling]:
        while len(self._ready) < count and (rows := self._upstream.take(count - len(self._ready))):
            self._ready += [one for row in rows for one in (row.apart() if self._samples(row) else [row])]
        found, self._ready = self._ready[:count], self._ready[count:]
        return [row for row in found if not row.over]

    def _samples(self, row: Travelling) -> bool:
        return any(row.job.decoding.of(answer).sampling.temperature for answer in self._answers)


class Stage(ABC):
    """Turns that run in one batch. It does not keep its pipeline: a circle would hold the memory of both for long."""

    def __init__(self, flow: Pipeline, upstream: Upstream, turns: Sequence[Turn]) -> None:
        self._flow, self.upstream = ref(flow), upstream
        self.writer = Writer(flow.modules, flow.plan, turns, flow.sights, flow.needs, flow.rows)
        self.turns = self.writer.turns
        self.last_of: list[str] = []
        """The turns of which no later stage reads anything."""

    @property
    def flow(self) -> Pipeline:
        flow = self._flow()
        assert flow is not None, "whoever runs a stage holds its pipeline"
        return flow

    def fail(self, row: Travelling, error: MascError) -> None:
        """A row cannot be answered."""
        self.flow.fail(row, error)

    @cached_property
    def adapting(self) -> Adapting:
        names = [self.writer.adapter(turn) for turn in self.turns]
        beside = {None, *(agent.adapter for agent in self.flow.plan.agents)}
        return adapting(self.writer.base, names, beside)

    def through(self, row: Travelling) -> None:
        for name in self.last_of:
            row.drop(name)

    @abstractmethod
    def take(self, count: int) -> list[Travelling]: ...


class Silent(Stage):
    """A stage that answers nothing. Its slots are those of the other such stages on its model."""

    @torch.no_grad()
    def take(self, count: int) -> list[Travelling]:
        rows = self.upstream.take(count)
        if not rows:
            return []
        self.flow.admit(rows, self._enter)
        return [row for row in rows if not row.over]

    def _enter(self, rows: Sequence[Travelling]) -> None:
        slots = self.flow.workspace(self.writer, len(rows) * len(self.turns))
        written, last = self.writer.write(slots, 0, rows, self.adapting)
        sound = last.isfinite().flatten(1).all(1)
        for slot, one in enumerate(written):
            one.row.stretches[one.turn.activation] = self.writer.stretch(slots, slot, one)
        if not bool(sound.all()):
            worst = written[sound.tolist().index(False)]
            raise no_numbers(worst.turn.agent, worst.row.job.index)
        for row in rows:
            self.through(row)


class Answering(Stage):
    """A stage that answers, with a pool of its own."""

    def __init__(self, flow: Pipeline, upstream: Upstream, turns: Sequence[Turn]) -> None:
        super().__init__(flow, Parting(upstream, turns), turns)
        self.done: list[Travelling] = []
        self._open: dict[int, int] = {}
        """By row in the pool, how many of its answers are not through."""
        self._dry = False
        self._waited = 0
        """Looks since rows were let in, of a live pipeline."""

    @cached_property
    def pool(self) -> Pool:
        flow = self.flow
        slots = flow.slots(self.writer, flow.size * len(self.turns))
        return Pool(self.writer, slots, self.adapting, flow.cuts, WeakMethod(self.fail))

    def take(self, count: int) -> list[Travelling]:
        while not self.flow.live and len(self.done) < count and self.advance():
            pass
        found, self.done = self.done[:count], self.done[count:]
        return [row for row in found if not row.over]

    @torch.no_grad()
    def advance(self, look: int = LOOK) -> bool:
        """Let rows in where there is room, and decode a few tokens. False: nobody is left."""
        if self.flow.live:
            self._left(self.pool.leave())
        free = self.flow.size - len(self._open)
        if not self._dry and (not self._open or 4 * free >= self.flow.size or (free and self._waited >= PATIENCE)):
            rows = self.upstream.take(free)
            self._dry = len(rows) < free and not self.flow.live
            if rows:
                self._waited = 0
                self.flow.admit(rows, self._enter)
                return True
        if not self._open:
            return False
        self._waited += self.flow.live
        self._left(self.pool.step(look))
        return True

    def _enter(self, rows: Sequence[Travelling]) -> None:
        left = self.pool.enter(rows)
        self._open |= {row.job.number: len(self.turns) for row in rows}
        self._left(left)
        for row in rows:
            self.through(row)

    def growing(self, said: str) -> Iterator[tuple[Sequence[int], bool]]:
        """Of a single row: the tokens of an answer as they are decoded, and whether it is done."""
        done = False
        while not done and self.advance(look=1):
            seat = next((seat for seat in self.pool.seats if seat.one.turn.said == said), None)
            if seat is None:
                row = self.done[0] if self.done else self.pool.seats[0].one.row
                ids, done = list(row.said[said].ids), True
            else:
                ids, done = seat.ids, seat.done
            yield ids, done

    def _left(self, seats: Sequence[Seat]) -> None:
        for seat in seats:
            row = seat.one.row
            self._open[row.job.number] -= 1
            if not self._open[row.job.number]:
                del self._open[row.job.number]
                if not row.over:
                    self.done.append(row)


class Pipeline:
    """A plan and the rows that flow through it."""

    live = False
    """Whether rows are added while it runs (`live.py`): then nobody waits for rows that are still on their way."""

    def __init__(self, modules: Modules, source: Upstream, rows: int, size: int, cuts: bool = False) -> None:
        """rows: how many there will be. size: rows at once in each stage that answers. cuts: as of `Pool`."""
        self.modules, self.plan, self.size = modules, modules.plan, max(1, min(size, rows))
        self.rows, self.cuts = rows, cuts
        self.sights = sights(self.plan)
        self.needs = needed(self.plan, self.sights)
        self._spaces: dict[str, Slots] = {}
        self._taken: list[Slots] = []
        before = source
        self.stages: list[Stage] = []
        for turns in stages(self.plan):
            stage = (Answering if turns[0].answer is not None else Silent)(self, before, turns)
            self.stages.append(stage)
            before = stage
        self._last = before
        at = {turn.activation: i for i, stage in enumerate(self.stages) for turn in stage.turns}
        for name, needs in self.needs.items():
            if needs.readers:
                self.stages[max(at[reader] for reader in needs.readers)].last_of.append(name)

    def results(self) -> Iterator[tuple[int, dict[str, Said]]]:
        """What was said for each row, by the row's number, as rows come through."""
        count = 1 if isinstance(self._last, Answering) else self.size
        try:
            while rows := self._last.take(count):
                yield from ((job.number, self.said(row)) for row in rows for job in row.job.each)
        finally:
            self.close()

    def growing(self, said: str) -> Iterator[tuple[Sequence[int], bool]]:
        """Of a single row: the tokens of an answer as they are decoded, and whether it is done."""
        try:
            yield from self.writing(said).growing(said)
        finally:
            self.close()

    def close(self) -> None:
        """Give back the slots: nothing will be run any more."""
        for slots in self._taken:
            self.modules.spaces.give(slots)
        self._taken.clear()

    def admit(self, rows: Sequence[Travelling], enter: Callable[[Sequence[Travelling]], None]) -> None:
        """Let rows into a stage."""
        enter(rows)

    def fail(self, row: Travelling, error: MascError) -> None:
        """A row cannot be answered."""
        raise error

    def said(self, row: Travelling) -> dict[str, Said]:
        return {turn.said: row.said[turn.said] for turn in self.plan.answering}

    def workspace(self, writer: Writer, slots: int) -> Slots:
        """Slots for a stage that holds no row between two calls."""
        name = self.plan.agent(writer.turns[0].agent).model
        found = self._spaces.get(name)
        if found is None or found.count < slots or (writer.by_layer and found.bias.shape[1] == 1):
            deep = writer.by_layer or (found is not None and found.bias.shape[1] > 1)
            found = self._spaces[name] = self.slots(writer, max(slots, found.count if found else 0), deep)
        return found

    def slots(self, writer: Writer, count: int, by_layer: bool | None = None) -> Slots:
        """Slots for as long as it runs."""
        found = self.modules.spaces.take(writer.base, count, writer.by_layer if by_layer is None else by_layer)
        self._taken.append(found)
        return found

    def writing(self, output: str) -> Answering:
        """The stage that answers an output."""
        stages = (
            stage for stage in self.stages for turn in stage.turns if turn.answer and turn.answer.output == output
        )
        found = next(stages)
        assert isinstance(found, Answering)
        return found


def run(pipeline: Pipeline) -> list[dict[str, Said]]:
    """What was said for every row, in the order of their numbers."""
    found = dict(pipeline.results())
    return [found[number] for number in sorted(found)]
