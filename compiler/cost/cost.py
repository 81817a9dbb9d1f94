"""What a plan costs: the tree that `masc cost` shows, and how it is worked out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

from masc.compiler.analysis.waves import stages
from masc.compiler.cost.anatomy import WIDTHS, Anatomy
from masc.compiler.cost.beside import bare, computed, folded, padded
from masc.compiler.cost.cards import Card, Fit
from masc.compiler.cost.lengths import Lengths, widest, widths
from masc.compiler.cost.memory import Memory, kept_of, memory_of
from masc.compiler.cost.passes import Doing, Written, written
from masc.compiler.cost.work import Adapted, Work, total, work_of
from masc.compiler.ir.arrival import Arrival
from masc.compiler.ir.plan import BaseModel, Plan, Turn, agent_of
from masc.compiler.language.alignments import ALIGNMENTS
from masc.compiler.language.models import LOADS
from masc.compiler.models.size import lora_size, ranks_of

Links = Mapping[tuple[str, str, str], int]
"""The numbers in the trained links: by channel, sender and receiver (agents)."""


@dataclass(frozen=True)
class Team:
    """A plan and what its cost follows from. anatomies: by name of the plan's models."""

    plan: Plan
    anatomies: Mapping[str, Anatomy]
    links: Links
    dtype: str

    @property
    def width(self) -> int:
        """Bytes of a number of the base models."""
        return WIDTHS[self.dtype]

    @cached_property
    def weights(self) -> int:
        """Bytes of the base models, each of which is there once."""
        return sum(self._bytes(model, self.anatomies[model.name].parameters) for model in self.plan.models)

    def read(self, agent: str) -> int:
        """Bytes of an agent's model that are read for one more token."""
        name = self.plan.agent(agent).model
        model = next(model for model in self.plan.models if model.name == name)
        return self._bytes(model, self.anatomies[name].read)

    def _bytes(self, model: BaseModel, numbers: int) -> int:
        """Of so many numbers of a model, the projections of its blocks among them: these may be quantised."""
        sizes, load = self.anatomies[model.name], LOADS.get(model.loading.load or "")
        width = self.width if load is None or load.dtype is None else WIDTHS[load.dtype]
        each = sizes.packed or (width if load is None or load.library is None else load.bytes)
        blocks = sizes.layers * sizes.layer
        return round(blocks * each) + (numbers - blocks) * width

    def plain(self, model: str) -> bool:
        """Whether the weights of a model are numbers, into which an adapter can be folded."""
        return self.anatomies[model].packed is None and not any(
            one.loading.quantised for one in self.plan.models if one.name == model
        )

    @cached_property
    def trained(self) -> int:
        """Numbers in adapters, maps of latent steps and links."""
        found = sum(self.links.values())
        for agent in self.plan.agents:
            sizes = self.anatomies[agent.model]
            if agent.own is not None:
                found += lora_size(sizes.projections, sizes.layers, agent.own)
        mapped = {
            turn.agent: self.of(turn).anatomy.hidden ** 2
            for turn in self.plan.turns
            if turn.think is not None and ALIGNMENTS[turn.think.align].trained and self.of(turn).ranks
        }
        return found + sum(mapped.values())

    @cached_property
    def folded(self) -> int:
        """Numbers in copies of projections with an adapter folded in, one for each adapter that runs alone; in float32
        of those without an adapter, too, which a CPU computes faster from a copy in its own order."""
        found, alone = 0, folded(self.plan)
        for agent in self.plan.agents:
            sizes = self.anatomies[agent.model]
            if agent.own is not None and agent.adapter in alone and self.plain(agent.model):
                own = ranks_of(agent.own, sizes.projections)
                found += sizes.layers * sum(prod(sizes.projections[name]) for name in own)
        for model in bare(self.plan) if self.dtype == "float32" else ():
            sizes = self.anatomies[model]
            found += sizes.layers * sum(map(prod, sizes.projections.values())) if self.plain(model) else 0
        return found

    def of(self, turn: Turn) -> Adapted:
        """Who runs a turn."""
        agent = self.plan.agent(turn.agent)
        sizes, lora = self.anatomies[agent.model], agent.lora
        dora, dropped = lora is not None and lora.dora, lora is not None and lora.dropout > 0
        align = None if turn.think is None else turn.think.align
        joined = self.plain(agent.model) and not dora and not dropped
        return Adapted(sizes, ranks_of(lora, sizes.projections), dora, dropped, align, joined)

    def computing(self, doing: Doing) -> dict[str, Adapted]:
        """Who runs each turn, with the adapters that are products of their own."""
        found = {turn.activation: self.of(turn) for turn in self.plan.turns}
        if doing == "training":
            return found
        for turns in stages(self.plan):
            adapters = computed(self.plan, turns).values()
            for turn in turns:
                who = found[turn.activation]
                ranks = [ranks_of(lora, who.anatomy.projections) for lora in adapters]
                names = {name for each in ranks for name in each}
                together = {name: sum(each.get(name, 0) for each in ranks) for name in names}
                found[turn.activation] = replace(who, ranks=together, joined=True)
        return found

    def crossing(self, turn: Turn) -> dict[Arrival, int]:
        """What arrives at a turn through a link, and the numbers in that."""
        return {
            each: self.links.get((each.kind, agent_of(each.segment), turn.agent), 0)
            for each in turn.arrives
            if each.link
        }


@dataclass(frozen=True)
class TurnCost:
    """One turn in one row. work: FLOPs. cache: bytes of the keys and values that it writes; kept: bytes that it keeps
    for the backward pass (0: it keeps none)."""

    activation: str
    written: Written
    work: Work
    cache: int
    kept: int = 0


@dataclass(frozen=True)
class Side:
    """A plan that runs, or is trained on: one row, turn by turn, and a batch.

    step: FLOPs of a batch, padding included (in training of all micro-batches); memory: its bytes at their peak, of a
    batch as wide as the data allows.
    """

    doing: Doing
    turns: tuple[TurnCost, ...]
    batch: int
    step: Work
    memory: Memory

    @property
    def positions(self) -> int:
        """Of one row, run through the models."""
        return sum(turn.written.positions for turn in self.turns)

    @property
    def work(self) -> Work:
        """Of one row."""
        return total(turn.work for turn in self.turns)

    @property
    def decoded(self) -> int:
        """Tokens that one row says, one pass for each."""
        return sum(turn.written.answer for turn in self.turns) if self.doing == "running" else 0

    @property
    def cache(self) -> int:
        return sum(turn.cache for turn in self.turns)

    @property
    def kept(self) -> int:
        return sum(turn.kept for turn in self.turns)


def side(team: Team, rows: Sequence[Lengths], doing: Doing, batch: int) -> Side:
    """What it costs to run a plan, or to train it. rows: how long the texts of each row are; batch: rows that go
    through it together."""
    settings = team.plan.train
    recompute = doing == "training" and settings.checkpoint == "agent"
    who = team.computing(doing)
    (mean,) = widths(rows, 1)
    one, works = _works(team, mean, doing, recompute)
    turns = tuple(
        _turn(team, turn.activation, who[turn.activation], one[turn.activation], work)
        for turn, work in zip(team.plan.turns, works, strict=True)
    )
    several = widths(rows, batch, settings.accumulate if doing == "training" else 1)
    step = total(total(_works(team, width, doing, recompute)[1]).times(batch) for width in several)
    return Side(doing, turns, batch, step, memory(team, rows, doing, batch))


def memory(team: Team, rows: Sequence[Lengths], doing: Doing, batch: int) -> Memory:
    """Bytes at the peak, at a batch as wide as there can be."""
    return _memory_by_batch(team, rows, doing)(batch)


def _memory_by_batch(team: Team, rows: Sequence[Lengths], doing: Doing) -> Callable[[int], Memory]:
    made, who = written(team.plan, widest(rows), doing), team.computing(doing)
    fixed = Memory(weights=team.weights, adapters=team.trained * 4, folded=team.folded * team.width)
    return lambda batch: memory_of(team.plan, who, made, doing, batch, team.width, fixed)


def most_rows(team: Team, rows: Sequence[Lengths], doing: Doing, room: float, limit: int = 1 << 20) -> int:
    """The largest batch that fits into so many bytes; 0 where not even one row does."""
    low, high, at = 0, 1, _memory_by_batch(team, rows, doing)
    while high < limit and at(high).least <= room:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if at(middle).least <= room else (low, middle)
    return low


def _works(team: Team, width: Lengths, doing: Doing, recompute: bool) -> tuple[dict[str, Written], list[Work]]:
    """What each turn writes in one row of a batch that is so wide, and its FLOPs."""
    made, who = written(team.plan, width, doing), team.computing(doing)
    run = padded(team.plan, made, doing)
    crossing = [(turn.activation, team.crossing(turn)) for turn in team.plan.turns]
    return made, [work_of(who[name], run[name], links, recompute) for name, links in crossing]


def _turn(team: Team, activation: str, who: Adapted, made: Written, work: Work) -> TurnCost:
    cache = made.columns * who.anatomy.cached * team.width
    return TurnCost(activation, made, work, cache, kept_of(who, made, team.width, batch=1))


@dataclass(frozen=True)
class Cost:
    """All that `masc cost` says. models: name, target and parameters of each; trained: numbers that are trained.

    lengths: where the lengths of texts are from. training: None where nothing is trained; text: the same team with
    every edge as text, running. fits: devices. notes: what is counted otherwise than one might think.
    """

    name: str
    dtype: str
    models: tuple[tuple[str, str, int], ...]
    trained: int
    lengths: str
    running: Side
    training: Side | None
    text: Side | None
    fits: tuple[Fit, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Measured:
    """A team with the lengths of its texts, when it runs and in training (empty: it is not trained), row by row."""

    team: Team
    running: Sequence[Lengths]
    training: Sequence[Lengths] = ()


def fit(of: Measured, card: Card, running: Side, training: Side | None) -> Fit:
    """A team on a device, at the batches of these sides."""
    token = _token_bytes(of.team, running) / card.bandwidth if card.bandwidth and running.decoded else None
    return Fit(
        card,
        running.memory.least <= card.room,
        most_rows(of.team, of.running, "running", card.room),
        None if training is None else training.memory.peak <= card.room,
        None if training is None else most_rows(of.team, of.training, "training", card.room),
        token,
        training.step.total / card.rate if card.rate and training is not None else None,
    )


def _token_bytes(team: Team, running: Side) -> float:
    """What is read for one more token of the answer that costs most: the weights once, the caches of all rows."""
    found = 0.0
    for turn, one in zip(team.plan.turns, running.turns, strict=True):
        if one.written.answer:
            sizes = team.of(turn).anatomy
            cache = running.batch * (one.written.seen + one.written.columns) * sizes.cached
            found = max(found, team.read(turn.agent) + cache * team.width)
    return found
