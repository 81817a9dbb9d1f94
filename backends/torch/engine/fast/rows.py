"""Rows on their way through a plan, each on its own and without padding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from masc.backends.torch.data.values import Row
from masc.backends.torch.engine.modules import Modules
from masc.backends.torch.engine.outputs import Said
from masc.backends.torch.model.base import Base
from masc.backends.torch.model.layout import Packed
from masc.backends.torch.model.prompts import Prompt
from masc.backends.torch.model.segments import KeysValues, Segment, States
from masc.compiler.analysis.decoding import AS_WRITTEN, Decoding
from masc.compiler.ir.arrival import Arrival
from masc.compiler.ir.plan import End, Plan, Turn, agent_of


@dataclass(frozen=True)
class Job:
    """A row to answer. number: its place in the call; index: its number in the data (for seeds and errors); sample:
    which of the row's answers, from 0; decoding: of the outputs; beside: the row's other answers, which are the same
    until something is sampled."""

    number: int
    row: Row
    index: int
    sample: int = 0
    decoding: Decoding = AS_WRITTEN
    beside: tuple[Job, ...] = ()

    @property
    def each(self) -> tuple[Job, ...]:
        """Its answers one by one."""
        return replace(self, beside=()), *self.beside


@dataclass(frozen=True)
class Stretch:
    """What one turn wrote for one row (a `Segment` without padding): prompt + latents + tokens positions from `start`
    on. kv: keys and values of its columns from `first` on, by shape [n, H, C, D], as far as somebody will look at them;
    hidden: final hidden states of prompt and latents, [P + m, d], and states: what layers keep at its end, likewise."""

    start: int
    prompt: int
    latents: int
    tokens: int
    first: int = 0
    kv: Packed | None = None
    hidden: Tensor | None = None
    states: States = ()

    @property
    def length(self) -> int:
        return self.prompt + self.latents + self.tokens

    def end(self, part: str) -> int:
        """The position after the last one (of the latents, if `part` says so)."""
        return self.start + self.length - (self.tokens if part == "latents" else 0)

    def columns(self, part: str) -> tuple[Packed, int]:
        """Keys and values of all of it or of its latents, and the position of the first."""
        assert self.kv is not None
        if part == "all":
            return self.kv, self.start
        first = self.prompt - self.first
        return tuple(one[:, :, first : first + self.latents] for one in self.kv), self.start + self.prompt

    def without_tensors(self) -> Stretch:
        return replace(self, kv=None, hidden=None, states=())


@dataclass
class Travelling:
    """One row, and by turn what has been written, read and said for it so far. over: nobody wants its answer any more,
    and it leaves wherever it is."""

    job: Job
    stretches: dict[str, Stretch] = field(default_factory=dict)
    prompts: dict[str, Prompt] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    said: dict[str, Said] = field(default_factory=dict)
    over: bool = False

    @property
    def way(self) -> tuple[int | str, ...]:
        """What tells it from rows that have not come the same way: what was written for it, and what was said."""
        return id(self.job.row), *map(id, self.stretches.values()), *self.texts.values()

    def apart(self) -> list[Travelling]:
        """A row for each answer to it, which go on by themselves; itself where there is one."""
        if not self.job.beside:
            return [self]
        return [
            replace(
                self,
                job=job,
                stretches=dict(self.stretches),
                prompts=dict(self.prompts),
                texts=dict(self.texts),
                said=dict(self.said),
            )
            for job in self.job.each
        ]

    def moved(self, shift: Sequence[str]) -> int:
        """By how many positions what is stacked behind these segments is moved."""
        return sum(self.stretches[name].length for name in shift)

    def start(self, ends: Sequence[End]) -> int:
        """Where a new segment starts: after the largest end."""
        return max((self.stretches[end.segment].end(end.part) + self.moved(end.shift) for end in ends), default=0)

    def drop(self, name: str) -> None:
        """Nobody will look at what a turn wrote any more."""
        self.stretches[name] = self.stretches[name].without_tensors()
        self.prompts.pop(name, None)


class SideBySide:
    """Some rows before one turn, as channels look at them (`bringing.Running`): what arrives, right-padded."""

    altering = None

    def __init__(self, modules: Modules, plan: Plan, turn: Turn, rows: Sequence[Travelling]) -> None:
        self.modules, self.plan = modules, plan
        self.rows: Sequence[Row] = [row.job.row for row in rows]
        self.indices = [row.job.index for row in rows]
        sent = list(dict.fromkeys(arrival.segment for arrival in turn.arrives))
        self.texts = {name: [row.texts[name] for row in rows] for name in sent if name in rows[0].texts}
        self.prompts = {name: [row.prompts[name] for row in rows] for name in sent if name in rows[0].prompts}
        self.segments = {
            name: _padded([row.stretches[name] for row in rows], plan.turn(name).changed, self.base(agent_of(name)))
            for name in sent
        }

    @property
    def device(self) -> torch.device:
        return self.modules.device

    def base(self, agent: str) -> Base:
        return self.modules.base(agent)

    def link(self, turn: Turn, arrival: Arrival) -> nn.Module:
        return self.modules.link(arrival.kind, agent_of(arrival.segment), turn.agent)

    def gate(self, turn: Turn, arrival: Arrival) -> Tensor | None:
        """Where a gate is not wide open, the exact engine runs (`Modules.wide_open`)."""
        return None


def _padded(rows: Sequence[Stretch], changed: bool, base: Base) -> Segment:
    """Prompts and latents of one turn as a segment; keys and values of the prompts alone. changed: the last token of
    each prompt stands in the last of the prompt's columns, as `rollout` puts it. base: wrote it."""
    wide, latents = max(row.prompt for row in rows), rows[0].latents
    table = torch.zeros(len(rows), wide + latents, dtype=torch.long, device="cpu")
    """Which column of a row stands where; 0 where there is none."""
    real = torch.zeros(len(rows), wide + latents, dtype=torch.bool, device="cpu")
    for i, row in enumerate(rows):
        own = [*range(row.prompt - 1), wide - 1] if changed else [*range(row.prompt)]
        own += range(wide, wide + latents)
        table[i, own] = torch.arange(len(own), device="cpu")
        real[i, own] = True
    start = torch.tensor([row.start for row in rows], dtype=torch.long, device=base.device)
    where = table.to(base.device)
    layers: KeysValues = ()
    if all(row.kv is not None and row.first == 0 for row in rows):
        held = [(row.kv, at[:wide]) for row, at in zip(rows, where, strict=True) if row.kv is not None]
        found = zip(*([one.index_select(2, at) for one in kv] for kv, at in held), strict=True)
        layout, _ = base.kept
        layers = layout.layers([torch.stack(each, 1) for each in found])
    hidden = None
    if all(row.hidden is not None for row in rows):
        states = [row.hidden.index_select(0, at) for row, at in zip(rows, where, strict=True) if row.hidden is not None]
        hidden = torch.stack(states)
    return Segment(layers, real.to(base.device), start, wide, latents, hidden)
