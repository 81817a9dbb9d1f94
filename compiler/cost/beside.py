"""Turns that share a batch when a plan runs: their prompts are padded to the longest, and where they have different
adapters, all of them are computed for each row. Adapters of turns that are alone are folded into the weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from masc.compiler.analysis.waves import stages
from masc.compiler.cost.passes import Pass, Written
from masc.compiler.ir.adapter import Lora
from masc.compiler.ir.plan import Plan, Turn


def computed(plan: Plan, turns: Sequence[Turn]) -> dict[str, Lora]:
    """The adapters that are computed for each row of these turns, by name. Empty: it is folded, or there is none."""
    agents = [plan.agent(turn.agent) for turn in turns]
    own = {agent.adapter: agent.lora for agent in agents if agent.adapter is not None and agent.lora is not None}
    return own if len({agent.adapter for agent in agents}) > 1 else {}


def folded(plan: Plan) -> set[str]:
    """The adapters that are folded into copies somewhere."""
    alone = [turns for turns in stages(plan) if not computed(plan, turns)]
    names = {plan.agent(turn.agent).adapter for turns in alone for turn in turns}
    return {name for name in names if name is not None}


def padded(plan: Plan, made: Mapping[str, Written]) -> dict[str, Written]:
    """Turns as they run side by side: what they write is the same, but it costs more."""
    found: dict[str, Written] = {}
    for turns in stages(plan):
        own = [made[turn.activation].passes for turn in turns]
        for turn in turns:
            one = made[turn.activation]
            passes = tuple(
                _widest(each, [other[i] for other in own if i < len(other)], i == 0)
                for i, each in enumerate(one.passes)
            )
            found[turn.activation] = replace(one, passes=passes)
    return found


def _widest(one: Pass, beside: Sequence[Pass], prompt: bool) -> Pass:
    queries = max(other.queries for other in beside) if prompt else one.queries
    return replace(one, queries=queries, columns=max(other.columns for other in beside))
