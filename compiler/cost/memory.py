"""Bytes at the peak of a run or of a training step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from masc.compiler.analysis.waves import stages
from masc.compiler.cost import engine
from masc.compiler.cost.beside import batches, padded
from masc.compiler.cost.passes import Doing, Written
from masc.compiler.cost.work import Adapted
from masc.compiler.ir.plan import Plan, Turn


@dataclass(frozen=True)
class Memory:
    """Bytes. weights: of the base models; adapters: and links; optimiser: gradients and AdamW's means; folded: copies
    of projections with an adapter folded in, made only where there is memory for them; caches: keys, values and hidden
    states of turns; kept: for the backward pass; logits: of answers; working: of the layer that is computed."""

    weights: int = 0
    adapters: int = 0
    optimiser: int = 0
    folded: int = 0
    caches: int = 0
    kept: int = 0
    logits: int = 0
    working: int = 0

    @property
    def peak(self) -> int:
        return sum(getattr(self, field.name) for field in fields(self))

    @property
    def least(self) -> int:
        """The peak where there is no memory for copies."""
        return self.peak - self.folded


def memory_of(
    plan: Plan,
    who: Mapping[str, Adapted],
    made: Mapping[str, Written],
    doing: Doing,
    batch: int,
    width: int,
    fixed: Memory,
) -> Memory:
    """Of a batch. fixed: what is there whatever the batch is."""
    if doing == "running":
        return _running(plan, who, made, batch, width, fixed)
    return _training(plan, who, made, batch, width, fixed)


def kept_of(who: Adapted, made: Written, width: int, batch: int) -> int:
    """Bytes that a turn keeps for the backward pass, of a batch; a cache that grows in place is not among them."""
    found = engine.copies(who.anatomy, who.ranks) if who.joined and made.graph else 0
    for one in made.passes:
        masked = batch > 1 or one.columns > one.queries
        shape = one.queries, int(one.columns), width, masked
        layer = engine.kept_layer(who.anatomy, who.ranks, *shape, who.dropped, who.joined, made.grows)
        found += one.graph * one.times * batch * layer
    return who.anatomy.layers * found


def _running(
    plan: Plan, who: Mapping[str, Adapted], made: Mapping[str, Written], batch: int, width: int, fixed: Memory
) -> Memory:
    """What turns leave for later ones, the slots in which turns that answer and the others are written, and the layer
    at work. Turns of a stage are rows of one batch."""
    left = slots = answering = logits = working = 0
    for turn in plan.turns:
        sizes, own = who[turn.activation].anatomy, made[turn.activation]
        left += batch * sizes.cached * width * own.columns * turn.kept("cache", "prompt")
        left += batch * _hidden(turn, own, sizes.hidden, width)
    for turns in stages(plan):
        sizes, rows = who[turns[0].activation].anatomy, batch * len(turns)
        columns = [made[turn.activation].seen + made[turn.activation].columns for turn in turns]
        space = rows * sizes.cached * width * engine.grown(max(columns))
        if turns[0].answer is not None:
            answering += space
            logits = max(logits, engine.LOGITS_RUNNING * rows * sizes.vocabulary * engine.WIDE)
        else:
            slots = max(slots, space)
        each = (_working(who[turn.activation], made[turn.activation], width, batch) for turn in turns)
        working = max(working, rows * max(max(one) for one in each))
    caches = left + slots + answering
    return Memory(fixed.weights, fixed.adapters, 0, fixed.folded, caches, 0, logits, working)


def _training(
    plan: Plan, who: Mapping[str, Adapted], made: Mapping[str, Written], batch: int, width: int, fixed: Memory
) -> Memory:
    """The end of the forward pass, where all is kept, or the end of the step, where all gradients are there."""
    caches = kept = logits = working = 0
    recompute = plan.train.checkpoint == "agent"
    beside = {name: len(names) for names in batches(plan, made, "training") for name in names}
    made = padded(plan, made, "training")
    for turn in plan.turns:
        name = turn.activation
        sizes, own, rows = who[name].anatomy, made[name], batch * beside[turn.activation]
        cache = batch * (own.seen + own.columns) * sizes.cached * width
        caches += cache + batch * _hidden(turn, own, sizes.hidden, width)
        bytes_kept = kept_of(who[name], own, width, batch)
        bytes_kept += cache if own.grows and recompute else 0  # it is made again
        kept = max(kept, bytes_kept) if recompute else kept + bytes_kept
        logits = max(logits, engine.logits_training(batch * own.answer, sizes.vocabulary, width))
        working = max(working, *(rows * each for each in _working(who[name], own, width, rows)))
    means = fixed.adapters * (engine.OPTIMISER - 1)
    # A layer is at work while no logits are there, and the other way round.
    logits, working = (logits, 0) if logits > working else (0, working)
    forward = Memory(fixed.weights, fixed.adapters, means, 0, caches, kept, logits, working)
    end = Memory(fixed.weights, fixed.adapters, fixed.adapters * engine.OPTIMISER)
    return max(forward, end, key=lambda each: each.peak)


def _working(who: Adapted, made: Written, width: int, batch: int) -> list[int]:
    """Of each pass of a turn, in one sample of a batch."""
    return [
        engine.working_layer(who.anatomy, who.ranks, one.queries, int(one.columns), width, masked)
        for one in made.passes
        for masked in [batch > 1 or one.columns > one.queries]
    ]


def _hidden(turn: Turn, made: Written, hidden: int, width: int) -> int:
    """The final hidden states that somebody is sent."""
    return (made.prompt + made.latents) * hidden * width if turn.kept("hidden") else 0
