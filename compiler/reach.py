"""Which adapters a loss reaches: read off the views, so that it holds of what is run and not of what was meant.

The agent that answers is reached in full. An agent that others see without feeding anything back is reached through
keys and values only: all of it below the topmost layer in which it is seen, of that layer the key and value
projections. An agent that feeds its own hidden states back (latent steps) is reached in full wherever a latent position
is seen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from masc.compiler.plan import Answer, Loss, Plan, Prefill, Reach, Think, View, agent_of
from masc.compiler.ranges import intersection

_LAST = -1


def with_reach(plan: Plan, layers: Mapping[str, int]) -> Plan:
    """The plan with every loss's `reaches`. `layers`: how many layers a model has, by name, as far as it is known.

    Where it is not known, -1 stands for the last layer; an agent behind another one that feeds nothing back then also
    gets -1, which is one layer more than is reached (the last but one cannot be named). Once the model is on disk,
    calling this again gives the exact numbers.
    """
    answers = {o.output: o.activation for o in plan.operations if isinstance(o, Answer)}
    operations = tuple(
        replace(o, reaches=_reaches(plan, answers[o.output], layers)) if isinstance(o, Loss) else o
        for o in plan.operations
    )
    return replace(plan, operations=operations)


def _reaches(plan: Plan, answering: str, layers: Mapping[str, int]) -> tuple[Reach, ...]:
    sees = {o.activation: o.sees for o in plan.operations if isinstance(o, Prefill)}
    thinking = {o.activation for o in plan.operations if isinstance(o, Think)}
    widest: dict[str, int | None] = {}
    visited: dict[str, int | None] = {}
    waiting: list[tuple[str, int | None]] = [(answering, None)]
    widest[agent_of(answering)] = None
    while waiting:
        activation, upto = waiting.pop()
        if activation in visited and _width(visited[activation]) >= _width(upto):
            continue
        visited[activation] = upto
        count = layers.get(plan.agent(agent_of(activation)).model)
        for view in sees[activation]:
            if view.stop or view.until is not None:
                continue
            top = _top(view, upto, count)
            if top is None:
                continue
            reached = None if view.segment in thinking else top
            agent = agent_of(view.segment)
            if agent not in widest or _width(reached) > _width(widest[agent]):
                widest[agent] = reached
            waiting.append((view.segment, reached))
    return tuple(Reach(a.name, widest[a.name]) for a in plan.agents if a.lora is not None and a.name in widest)


def _top(view: View, upto: int | None, count: int | None) -> int | None:
    """The topmost layer in which a view is seen, if only the layers before `upto` matter (None: all; -1: all but the
    last).

    None where no layer is left; -1 where it is the last one and the model's number of layers is not known.
    """
    end = upto if upto is not None and upto != _LAST else count
    if end is None:
        return _LAST if view.layers is None else view.layers[-1][1]
    below = intersection(view.layers, ((0, end - 1),)) if end > 0 else ()
    return below[-1][1] if below else None


def _width(reached: int | None) -> float:
    return math.inf if reached is None else 1e9 if reached == _LAST else reached
