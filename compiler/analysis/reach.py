"""Which parameters a loss reaches: read off the plan, so that it holds of what is run and not of what was meant.

A gradient arrives at an activation in one of three ways. In full: at its final hidden states, where it answers, where
they are sent on, or where it feeds them back to itself (latent steps that stop no gradient). At the keys and values of
its prompt: through a fuser, in the layers that are fused. Or at the keys and values of all that follows, too: through
a view, in the layers that are seen. Keys and values of a layer reach the projections that made them and all layers
below, which read what the activation saw there. Through `trace(a#1)` it goes on to all that `a#1` sees, in these
layers. The gates of all that is looked at on the way are reached, whatever stops. No gradient crosses text.
(docs/semantics.md, section 10)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from masc.compiler.analysis.sights import Sights, sights
from masc.compiler.channels import PLAIN
from masc.compiler.ir.arrival import MANY, Arrived, counted
from masc.compiler.ir.plan import Across, Gate, LatentMap, Plan, Reach, TraceOf, Turn, View, agent_of
from masc.compiler.ir.ranges import Layers, intersection, top, union, within
from masc.compiler.language.alignments import ALIGNMENTS

_LAST = -1


def with_reach(plan: Plan, layers: Mapping[str, int], step: int | None = None) -> Plan:
    """The plan with every loss's `reaches`. `layers`: how many layers a model has, by name, as far as it is known.
    step: of training, while some channels may still be open (`open`); None: all are closed, as the plan says it.

    Where it is not known, -1 stands for the last layer; an agent behind another one that feeds nothing back then also
    gets -1, which is one layer more than is reached (the last but one cannot be named), and fusers count as reached in
    all their layers. Once the model is on disk, calling this again gives the exact numbers.
    """
    answers = {turn.said: turn.activation for turn in plan.answering}
    search = _Search(
        {turn.activation: turn for turn in plan.turns},
        {agent.name: layers.get(agent.model) for agent in plan.agents},
        {agent.name: agent.adapter for agent in plan.agents if agent.adapter is not None},
        sights(plan) if any(entry.gates for turn in plan.turns for entry in turn.sees) else {},
        step,
    )
    return replace(
        plan, losses=tuple(replace(loss, reaches=search.from_(answers[loss.output])) for loss in plan.losses)
    )


def while_open(plan: Plan, layers: Mapping[str, int]) -> dict[int, Plan]:
    """By a step at which channels close, earliest first: the plan with the `reaches` of the step before."""
    closing = sorted({view.until for turn in plan.turns for view in turn.sees if view.until is not None})
    return {until: with_reach(plan, layers, step=until - 1) for until in closing}


@dataclass
class _Search:
    turns: dict[str, Turn]
    """In the order of the plan."""
    known: Mapping[str, int | None]
    """By agent: its model's layers."""
    adapters: Mapping[str, str]
    """By agent that is not frozen: the agent whose adapter it has."""
    sights: Sights
    """What each turn sees in the end; empty where no edge has a gate."""
    step: int | None = None
    across: dict[tuple[str, str, str], Layers] = field(default_factory=dict)
    """By edge (kind, sender, receiver): the receiver's layers in which it is reached."""

    def from_(self, answering: str) -> tuple[Reach | LatentMap | Across, ...]:
        self.across = {}
        arrived = {answering: Arrived(full=True)}
        for activation in reversed(self.turns):  # every segment is written before it is named
            if activation in arrived:
                for behind, there in self._behind(self.turns[activation], arrived[activation]):
                    before = arrived.get(behind, Arrived())
                    if before | there != before:
                        arrived[behind] = before | there
        for activation, at in arrived.items():
            below = at.below(counted(self.known[agent_of(activation)]))
            views = [view for view in self.sights.get(activation, ()) if self._exists(view.until)]
            for gate in _looked_through(views, below):
                self.across[PLAIN.kind, *gate] = None
        widest: dict[str, int | None] = {}
        mapped: set[str] = set()
        for activation, at in arrived.items():
            if not at.anywhere:
                continue
            agent = agent_of(activation)
            highest = None if at.full else max(top(at.prompt), top(at.rest))
            adapter = self.adapters.get(agent, agent)
            if highest is None or adapter not in widest:
                widest[adapter] = highest
            elif (other := widest[adapter]) is not None:
                widest[adapter] = max(highest, other)
            think = self.turns[activation].think
            if think is not None and ALIGNMENTS[think.align].trained and (at.full or at.rest):
                mapped.add(agent)
        owners = [name for name, adapter in self.adapters.items() if adapter == name]
        agents = (Reach(name, _named(widest[name])) for name in owners if name in widest)
        maps = (LatentMap(name) for name in self.adapters if name in mapped)
        edges = (Across(kind, sender, receiver, layers) for (kind, sender, receiver), layers in self.across.items())
        return (*agents, *maps, *edges)

    def _exists(self, until: int | None) -> bool:
        """Whether a view that ends with a step (None: never) is there."""
        return until is None or (self.step is not None and self.step < until)

    def _behind(self, turn: Turn, at: Arrived) -> Iterator[tuple[str, Arrived]]:
        """What the gradient that has arrived at a turn goes on to."""
        agent = turn.agent
        count = counted(self.known[agent])
        below = ((0, at.below(count) - 1),) if at.below(count) else ()
        looking = union(below, at.sight) or ()
        for entry in turn.sees:
            if entry.stop or entry.cut or not self._exists(entry.until):
                continue
            if not (seen := intersection(entry.layers, looking)):
                continue
            think = self.turns[entry.segment].think
            whole = isinstance(entry, TraceOf) or entry.part == "all"
            sight = seen if isinstance(entry, TraceOf) else ()
            if think is not None and not think.stop:
                yield entry.segment, Arrived(full=True, sight=sight)
            else:
                yield entry.segment, Arrived(prompt=seen if whole else (), rest=seen, sight=sight)
        if not at.anywhere:
            return
        for arrival in turn.arrives:
            sender = agent_of(arrival.segment)
            reached = arrival.through(at, self.known[agent], self.known[sender])
            if reached.link != ():
                key = arrival.kind, sender, agent
                both = union(self.across.get(key, ()), reached.link)
                self.across[key] = None if both == reached.paired else both
            if reached.behind is not None:
                yield arrival.segment, reached.behind


def _looked_through(views: Sequence[View], below: int) -> Iterator[Gate]:
    """The gates that make a difference to an agent of which so many layers are gone through. Not those of a view beside
    a wider one: of two paths the gates of one may be among those of the other."""
    for view in views:
        here = intersection(view.layers, ((0, below - 1),)) if view.gates and below else ()
        wider: Layers = ()
        for other in views if here else ():
            more = set(other.gates) < set(view.gates) and other.segment == view.segment and other.until is None
            if more and (other.part == "all" or view.part == "latents"):
                wider = union(wider, other.layers)
        if here and not within(here, wider):
            yield from view.gates


def _named(layer: int | None) -> int | None:
    """As the plan says it: -1 for the last layer of a model of which nobody knows how many it has."""
    return _LAST if layer is not None and layer > MANY // 2 else layer
