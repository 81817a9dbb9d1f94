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

from masc.compiler.plan import Across, Answer, Fuse, LatentMap, Loss, Plan, Prefill, Reach, Think, View, agent_of
from masc.compiler.ranges import intersection

_LAST = -1


def with_reach(plan: Plan, layers: Mapping[str, int]) -> Plan:
    """The plan with every loss's `reaches`. `layers`: how many layers a model has, by name, as far as it is known.

    Where it is not known, -1 stands for the last layer; an agent behind another one that feeds nothing back then also
    gets -1, which is one layer more than is reached (the last but one cannot be named), and fusers count as reached in
    all their layers. Once the model is on disk, calling this again gives the exact numbers.
    """
    answers = {o.name: o.activation for o in plan.operations if isinstance(o, Answer)}
    search = _Search(
        {o.activation: o for o in plan.operations if isinstance(o, Prefill)},
        {o.activation: o for o in plan.operations if isinstance(o, Think)},
        {agent.name: layers.get(agent.model) for agent in plan.agents},
        [agent.name for agent in plan.agents if agent.lora is not None],
    )
    operations = tuple(
        replace(o, reaches=search.from_(answers[o.output])) if isinstance(o, Loss) else o for o in plan.operations
    )
    return replace(plan, operations=operations)


@dataclass(frozen=True)
class _Behind:
    """An activation that a gradient arrives at: up to which of its layers, and whether at its latent positions."""

    activation: str
    upto: int | None
    latents: bool


@dataclass
class _Search:
    prefills: Mapping[str, Prefill]
    thinks: Mapping[str, Think]
    count: Mapping[str, int | None]
    """By agent: its model's layers."""
    adapted: list[str]
    across: dict[tuple[str, str, str], int | None] = field(default_factory=dict)
    """By edge (kind, sender, receiver): its topmost layer that is reached."""

    def from_(self, answering: str) -> tuple[Reach | LatentMap | Across, ...]:
        self.across = {}
        widest: dict[str, int | None] = {}
        mapped: set[str] = set()
        visited: dict[str, int | None] = {}
        waiting = [_Behind(answering, None, True)]
        while waiting:
            now = waiting.pop()
            agent = agent_of(now.activation)
            if now.latents and now.activation in self.thinks and self.thinks[now.activation].align == "linear":
                mapped.add(agent)
            if now.activation in visited and _width(visited[now.activation]) >= _width(now.upto):
                continue
            visited[now.activation] = now.upto
            if agent not in widest or _width(now.upto) > _width(widest[agent]):
                widest[agent] = now.upto
            waiting += self._behind(now.activation, now.upto)
        agents = (Reach(name, widest[name]) for name in self.adapted if name in widest)
        maps = (LatentMap(name) for name in self.adapted if name in mapped)
        edges = (
            Across("hidden" if kind == "hidden" else "fuse", sender, receiver, layer)
            for (kind, sender, receiver), layer in self.across.items()
        )
        return (*agents, *maps, *edges)

    def _behind(self, activation: str, upto: int | None) -> Iterator[_Behind]:
        """What the gradient that arrives at an activation goes on to."""
        prefill, agent = self.prefills[activation], agent_of(activation)
        for view in prefill.sees:
            if not view.stop and view.until is None and (top := _top(view, upto, self.count[agent])) is not None:
                yield _Behind(view.segment, None if self._feeds_back(view.segment) else top, True)
        for splice in prefill.splices:
            if not splice.cut:
                self.across["hidden", agent_of(splice.segment), agent] = None
                if not splice.stop:
                    yield _Behind(splice.segment, None, True)
        for fuse in prefill.fuses:
            sender = agent_of(fuse.segment)
            own, theirs = self.count[agent], self.count[sender]
            top = _fused(fuse, upto, own, theirs)
            if top is not None:
                key = "fuse", sender, agent
                layer = None
                if own is not None and theirs is not None and _fused(fuse, None, own, theirs) != top:
                    layer = top + own - theirs
                if key not in self.across or _width(self.across[key]) < _width(layer):
                    self.across[key] = layer
                if not fuse.stop:
                    yield _Behind(fuse.segment, top, False)

    def _feeds_back(self, activation: str) -> bool:
        return activation in self.thinks and not self.thinks[activation].stop


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
