"""Turns that share a batch: their prompts are padded to the longest. When a plan runs, and they have different
adapters, all of these are computed for each row; in training each is for its own rows. Adapters of turns that run
alone are folded into the weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from masc.compiler.analysis.waves import fits, siblings, stages
from masc.compiler.cost.passes import Doing, Pass, Written
from masc.compiler.ir.adapter import Lora
from masc.compiler.ir.plan import Plan, PlanAgent, Turn


def computed(plan: Plan, turns: Sequence[Turn]) -> dict[str, Lora]:
    """The adapters that are computed for each row of these turns, by name. Empty: it is folded, or there is none."""
    agents = [plan.agent(turn.agent) for turn in turns]
    own = {agent.adapter: agent.lora for agent in agents if agent.adapter is not None and agent.lora is not None}
    return own if len({agent.adapter for agent in agents}) > 1 else {}


def folded(plan: Plan) -> set[str]:
    """The adapters that are folded into copies somewhere."""
    return {agent.adapter for agent in _alone(plan) if agent.adapter is not None}


def bare(plan: Plan) -> set[str]:
    """The models that run somewhere without any adapter, or with several beside their weights."""
    several = [turns for turns in stages(plan) if len(computed(plan, turns)) > 1]
    found = {agent.model for agent in _alone(plan) if agent.adapter is None}
    return found | {plan.agent(turn.agent).model for turns in several for turn in turns}


def _alone(plan: Plan) -> list[PlanAgent]:
    """The agents whose adapter, or none, is that of all that they are computed with."""
    return [plan.agent(turn.agent) for turns in stages(plan) if not computed(plan, turns) for turn in turns]


def batches(plan: Plan, made: Mapping[str, Written], doing: Doing) -> list[list[str]]:
    """The activations, those in one batch that share one."""
    if doing == "running":
        return [[turn.activation for turn in turns] for turns in stages(plan)]
    several = {} if plan.train.checkpoint == "agent" else siblings(plan)
    groups = dict.fromkeys(several.get(turn.activation, (turn.activation,)) for turn in plan.turns)
    found: list[list[str]] = []
    for names in groups:
        together = fits([made[name].prompt for name in names])
        found += [list(names)] if together else [[name] for name in names]
    return found


def padded(plan: Plan, made: Mapping[str, Written], doing: Doing) -> dict[str, Written]:
    """Turns as they are computed side by side: what they write is the same, but it costs more."""
    found: dict[str, Written] = {}
    for names in batches(plan, made, doing):
        own = [made[name].passes for name in names]
        for name in names:
            one = made[name]
            passes = tuple(
                _widest(each, [other[i] for other in own if i < len(other)], i == 0)
                for i, each in enumerate(one.passes)
            )
            found[name] = replace(one, passes=passes)
    return found


def _widest(one: Pass, beside: Sequence[Pass], prompt: bool) -> Pass:
    queries = max(other.queries for other in beside) if prompt else one.queries
    return replace(one, queries=queries, columns=max(other.columns for other in beside))
