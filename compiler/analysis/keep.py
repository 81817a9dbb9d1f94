"""Keep: what of each turn later ones need, and whether a gradient may come back to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import get_args

from masc.compiler.ir.arrival import Kept
from masc.compiler.ir.plan import Keep, Plan, TraceOf, Turn

_ORDER: tuple[Kept, ...] = get_args(Kept)


def keep(plan: Plan) -> Plan:
    """The plan with every turn's `keeps` and `gradient`."""
    needed: dict[tuple[str, Kept], dict[str, None]] = {}
    for turn in plan.turns:
        for name, what in _needs(turn):
            needed.setdefault((name, what), {})[turn.activation] = None
    behind = _behind(plan)
    turns = (
        replace(
            turn,
            keeps=tuple(
                Keep(what, tuple(needed[turn.activation, what])) for what in _ORDER if (turn.activation, what) in needed
            ),
            gradient=turn.activation in behind,
        )
        for turn in plan.turns
    )
    return replace(plan, turns=tuple(turns))


def _needs(turn: Turn) -> Iterator[tuple[str, Kept]]:
    """What a turn needs of earlier ones. What is cut counts: positions stay."""
    seen = {entry.segment for entry in turn.sees}
    for entry in turn.sees:
        yield entry.segment, "cache"
    for place in (*turn.sees, *turn.at):
        yield from ((name, "length") for name in place.shift if name not in seen)
    yield from ((end.segment, "length") for end in turn.at if end.segment not in seen)
    for arrival in turn.arrives:
        yield arrival.segment, arrival.keeps


def _behind(plan: Plan) -> set[str]:
    """The turns that some loss is behind, through what stops no gradient: at any step of training, in any layer."""
    answers = {turn.said: turn.activation for turn in plan.answering}
    found = {answers[loss.output] for loss in plan.losses}
    looked: set[str] = set()
    """The turns through whose sight (`trace`) something is seen."""
    for turn in reversed(plan.turns):  # every segment is written before it is named
        here = turn.activation in found
        for entry in turn.sees if here or turn.activation in looked else ():
            if not (entry.stop or entry.cut):
                found.add(entry.segment)
                looked |= {entry.segment} if isinstance(entry, TraceOf) else set()
        found |= {arrival.segment for arrival in turn.arrives if arrival.passes} if here else set()
    return found
