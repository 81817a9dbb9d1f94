"""What of a team's words a reward trains: the answer, and all that agents sample for each other on the way to it
(docs/semantics.md, section 10.6). A text that is not sampled follows from the rest, and has no gradient of its own."""

from __future__ import annotations

from dataclasses import replace

from masc.compiler.analysis.keep import keep
from masc.compiler.ir.plan import Loss, Plan, Turn


def sampled_texts(plan: Plan) -> tuple[str, ...]:
    """What agents tell each other and sample, by activation."""
    return tuple(turn.said for turn in plan.answering if _sampled(turn))


def policy(plan: Plan, seed: int | None = None) -> Plan:
    """The plan as a reward trains it: sampled texts are drawn as the answer is, at temperature 1 with the whole
    vocabulary, and a gradient begins at each of them, too. seed: of what they draw (None: as the plan says). Their
    losses have no column; what they reach `with_reach` says."""
    names = sampled_texts(plan)
    if not names:
        return plan
    turns = tuple(_drawn(turn, seed) if _sampled(turn) else turn for turn in plan.turns)
    losses = (*plan.losses, *(Loss(name, "", ()) for name in names))
    return keep(replace(plan, turns=turns, losses=losses))


def outspoken(plan: Plan) -> Plan:
    """The plan where agents sample all that they tell each other, so that a reward trains whoever says anything."""
    return replace(plan, turns=tuple(_drawn(turn, None) if _tells(turn) else turn for turn in plan.turns))


def _tells(turn: Turn) -> bool:
    return turn.answer is not None and turn.answer.output is None


def _sampled(turn: Turn) -> bool:
    return _tells(turn) and turn.answer is not None and turn.answer.sampling.temperature > 0


def _drawn(turn: Turn, seed: int | None) -> Turn:
    assert turn.answer is not None
    own = turn.answer.sampling
    sampling = replace(own, temperature=1.0, top_p=1.0, seed=own.seed if seed is None else seed)
    return replace(turn, answer=replace(turn.answer, sampling=sampling))
