"""Optimise: leave out of a plan what changes nothing, so that the backend need not look for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain

from masc.compiler.ir.plan import End, Plan, Turn


def optimise(plan: Plan) -> Plan:
    return merge_models(drop_implied_ends(plan))


def merge_models(plan: Plan) -> Plan:
    """Models with one target that are loaded alike are one model (one base in memory); models that no agent runs on are
    left out."""
    first: dict[object, str] = {}
    for model in plan.models:
        first.setdefault(model.base, model.name)
    name = {model.name: first[model.base] for model in plan.models}
    agents = tuple(replace(agent, model=name[agent.model]) for agent in plan.agents)
    used = {agent.model for agent in agents}
    return replace(plan, models=tuple(m for m in plan.models if m.name in used), agents=agents)


def drop_implied_ends(plan: Plan) -> Plan:
    """Drop ends that cannot be the largest: those of segments that another seen segment started after.

    A segment starts at or after every end in its `at`, and shifts only move it further; so what lies before its start
    lies before its end.
    """
    kept: dict[str, tuple[End, ...]] = {}
    rank = {turn.activation: i for i, turn in enumerate(plan.turns)}

    def passed(segments: Iterable[str]) -> Iterator[End]:
        """All that some of the segments started after, directly or not, down to the first of them. (None of them
        started after itself.)"""
        waiting = list(dict.fromkeys(segments))
        seen, first = set(waiting), min(rank[name] for name in waiting)
        while waiting:
            for end in kept[waiting.pop()]:
                yield end
                if end.segment not in seen and rank[end.segment] > first:
                    seen.add(end.segment)
                    waiting.append(end.segment)

    def prune(turn: Turn) -> Turn:
        kept[turn.activation] = turn.at
        if len(turn.at) < 2:
            return turn
        before: dict[str, list[End]] = {end.segment: [] for end in turn.at}
        for end in chain(turn.at, passed(before)):
            if end.segment in before:
                before[end.segment].append(end)

        def implied(end: End) -> bool:
            return any(other is not end and _reaches_past(other, end) for other in before[end.segment])

        kept[turn.activation] = tuple(end for end in turn.at if not implied(end))
        return replace(turn, at=kept[turn.activation])

    return replace(plan, turns=tuple(map(prune, plan.turns)))


def _reaches_past(a: End, b: End) -> bool:
    """Whether `a` cannot lie before `b`, both being ends of one segment."""
    return (a.part == "all" or b.part == "latents") and not Counter(b.shift) - Counter(a.shift)
