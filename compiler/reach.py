"""Which parameters a loss reaches: read off the plan, so that it holds of what is run and not of what was meant.

The agent that answers is reached in full. An agent that others see without feeding anything back is reached through
keys and values only: all of it below the topmost layer in which it is seen, of that layer the key and value
projections. An agent that feeds its own hidden states back (latent steps that stop no gradient) is reached in full
wherever a latent position is seen; so is one whose final hidden states are sent. Through a fuser, what counts are the
sender's keys and values in the layers that are fused into ones of the receiver that matter. No gradient crosses text.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from masc.compiler.plan import Across, Answer, Fuse, Loss, Plan, Prefill, Reach, Think, View, agent_of
from masc.compiler.ranges import intersection

_LAST = -1


def with_reach(plan: Plan, layers: Mapping[str, int]) -> Plan:
    """The plan with every loss's `reaches`. `layers`: how many layers a model has, by name, as far as it is known.

    Where it is not known, -1 stands for the last layer; an agent behind another one that feeds nothing back then also
    gets -1, which is one layer more than is reached (the last but one cannot be named). Once the model is on disk,
    calling this again gives the exact numbers.
    """
    answers = {o.name: o.activation for o in plan.operations if isinstance(o, Answer)}
    search = _Search(
        {o.activation: o for o in plan.operations if isinstance(o, Prefill)},
        {o.activation for o in plan.operations if isinstance(o, Think) and not o.stop},
        {agent.name: layers.get(agent.model) for agent in plan.agents},
    )
    adapted = [agent.name for agent in plan.agents if agent.lora is not None]
    operations = tuple(
        replace(o, reaches=search.from_(answers[o.output], adapted)) if isinstance(o, Loss) else o
        for o in plan.operations
    )
    return replace(plan, operations=operations)


def heard(plan: Plan) -> set[str]:
    """The agents whose latent positions some agent sees or is sent with a gradient, or that answer after them: only
    there is a trainable map behind the steps (`align = linear`) reached. A fuser takes the prompt alone."""
    thinking = {o.activation for o in plan.operations if isinstance(o, Think)}
    prefills = [o for o in plan.operations if isinstance(o, Prefill)]
    seen = {view.segment for o in prefills for view in o.sees if view.until is None and not view.stop}
    sent = {splice.segment for o in prefills for splice in o.splices if not (splice.cut or splice.stop)}
    answering = {o.activation for o in plan.operations if isinstance(o, Answer)}
    return {agent_of(activation) for activation in thinking & (seen | sent | answering)}


@dataclass
class _Search:
    prefills: Mapping[str, Prefill]
    thinking: set[str]
    count: Mapping[str, int | None]
    """By agent: its model's layers."""
    across: dict[Across, None] = field(default_factory=dict)

    def from_(self, answering: str, adapted: list[str]) -> tuple[Reach | Across, ...]:
        self.across = {}
        widest: dict[str, int | None] = {agent_of(answering): None}
        visited: dict[str, int | None] = {}
        waiting: list[tuple[str, int | None]] = [(answering, None)]
        while waiting:
            activation, upto = waiting.pop()
            if activation in visited and _width(visited[activation]) >= _width(upto):
                continue
            visited[activation] = upto
            for segment, reached in self._behind(activation, upto):
                agent = agent_of(segment)
                if agent not in widest or _width(reached) > _width(widest[agent]):
                    widest[agent] = reached
                waiting.append((segment, reached))
        return (*(Reach(name, widest[name]) for name in adapted if name in widest), *self.across)

    def _behind(self, activation: str, upto: int | None) -> Iterator[tuple[str, int | None]]:
        """What the gradient that arrives at an activation goes on to, and up to which layer."""
        prefill, agent = self.prefills[activation], agent_of(activation)
        for view in prefill.sees:
            if not view.stop and view.until is None and (top := _top(view, upto, self.count[agent])) is not None:
                yield view.segment, None if view.segment in self.thinking else top
        for splice in prefill.splices:
            if not splice.cut:
                self.across[Across("hidden", agent_of(splice.segment), agent)] = None
                if not splice.stop:
                    yield splice.segment, None
        for fuse in prefill.fuses:
            top = _fused(fuse, upto, self.count[agent], self.count[agent_of(fuse.segment)])
            if top is not None:
                self.across[Across("fuse", agent_of(fuse.segment), agent)] = None
                if not fuse.stop:
                    yield fuse.segment, top


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


def _fused(fuse: Fuse, upto: int | None, count: int | None, sender: int | None) -> int | None:
    """The sender's topmost layer that is fused into one of the receiver's that matters: those up to `upto` itself,
    whose fused keys and values are what is seen. None where there is none; -1 where it is the last one or cannot be
    told."""
    if count is None or sender is None:
        return _LAST
    last = count - 1 if upto is None or upto == _LAST else upto
    inside = intersection(fuse.layers, ((max(0, count - sender), last),)) if last >= count - sender else ()
    return inside[-1][1] - (count - sender) if inside else None


def _width(reached: int | None) -> float:
    return math.inf if reached is None else 1e9 if reached == _LAST else reached
