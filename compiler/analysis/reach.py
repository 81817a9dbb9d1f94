"""Which parameters a loss reaches: read off the plan, so that it holds of what is run and not of what was meant.

A gradient arrives at an activation in one of three ways. In full: at its final hidden states, where it answers, where
they are sent on, or where it feeds them back to itself (latent steps that stop no gradient). At the keys and values of
its prompt: through a fuser, in the layers that are fused. Or at the keys and values of all that follows, too: through
a view, in the layers that are seen. Keys and values of a layer reach the projections that made them and all layers
below, which read what the activation saw there. Through `trace(a#1)` it goes on to all that `a#1` sees, in these
layers. No gradient crosses text. (docs/semantics.md, section 10)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from masc.compiler.ir.plan import Across, Fuse, LatentMap, Layers, Plan, Reach, TraceOf, Turn, agent_of
from masc.compiler.ir.ranges import intersection, union
from masc.compiler.language.alignments import ALIGNMENTS

_Set = tuple[tuple[int, int], ...]
"""Layers that are counted out: ranges as in `Layers`, but none is none."""

_MANY = 1 << 40
"""So many layers has a model of which nobody knows how many."""
_LAST = -1


def with_reach(plan: Plan, layers: Mapping[str, int]) -> Plan:
    """The plan with every loss's `reaches`. `layers`: how many layers a model has, by name, as far as it is known.

    Where it is not known, -1 stands for the last layer; an agent behind another one that feeds nothing back then also
    gets -1, which is one layer more than is reached (the last but one cannot be named), and fusers count as reached in
    all their layers. Once the model is on disk, calling this again gives the exact numbers.
    """
    answers = {turn.said: turn.activation for turn in plan.answering}
    search = _Search(
        {turn.activation: turn for turn in plan.turns},
        {agent.name: layers.get(agent.model) for agent in plan.agents},
        [agent.name for agent in plan.agents if agent.lora is not None],
    )
    return replace(
        plan, losses=tuple(replace(loss, reaches=search.from_(answers[loss.output])) for loss in plan.losses)
    )


@dataclass(frozen=True)
class _Arrived:
    """Where a gradient arrives at an activation.

    full    at its final hidden states
    prompt  at keys and values of its prompt (all but the last token) in these layers
    rest    at keys and values of what follows (the last token, latent steps, the answer) in these layers
    sight   at what it sees, in these layers, without going through it (`trace`)
    """

    full: bool = False
    prompt: _Set = ()
    rest: _Set = ()
    sight: _Set = ()

    def __or__(self, other: _Arrived) -> _Arrived:
        return _Arrived(
            self.full or other.full,
            _both(self.prompt, other.prompt),
            _both(self.rest, other.rest),
            _both(self.sight, other.sight),
        )

    @property
    def arrived(self) -> bool:
        """Whether it arrives at what the turn itself wrote."""
        return bool(self.full or self.prompt or self.rest)

    def below(self, count: int) -> int:
        """How many layers, from the first, are gone through as a whole."""
        return count if self.full else max(_top(self.prompt), _top(self.rest), 0)

    def fused(self, count: int) -> _Set:
        """The layers in which it matters what is fused into the prompt: those that are looked at from elsewhere, and
        those that the rest of the activation reads. The prompt itself reads its keys as they were."""
        read = count if self.full else _top(self.rest)
        return _both(self.prompt, ((0, read - 1),) if read > 0 else ())


@dataclass
class _Search:
    turns: dict[str, Turn]
    """In the order of the plan."""
    known: Mapping[str, int | None]
    """By agent: its model's layers."""
    adapted: list[str]
    across: dict[tuple[str, str, str], Layers] = field(default_factory=dict)
    """By edge (kind, sender, receiver): the receiver's layers in which it is reached."""

    def from_(self, answering: str) -> tuple[Reach | LatentMap | Across, ...]:
        self.across = {}
        arrived = {answering: _Arrived(full=True)}
        for activation in reversed(self.turns):  # every segment is written before it is named
            if activation in arrived:
                for behind, there in self._behind(self.turns[activation], arrived[activation]):
                    before = arrived.get(behind, _Arrived())
                    if before | there != before:
                        arrived[behind] = before | there
        widest: dict[str, int | None] = {}
        mapped: set[str] = set()
        for activation, at in arrived.items():
            if not at.arrived:
                continue
            agent = agent_of(activation)
            top = None if at.full else max(_top(at.prompt), _top(at.rest))
            if top is None or agent not in widest:
                widest[agent] = top
            elif (other := widest[agent]) is not None:
                widest[agent] = max(top, other)
            think = self.turns[activation].think
            if think is not None and ALIGNMENTS[think.align].trained and (at.full or at.rest):
                mapped.add(agent)
        agents = (Reach(name, _named(widest[name])) for name in self.adapted if name in widest)
        maps = (LatentMap(name) for name in self.adapted if name in mapped)
        edges = (
            Across("hidden" if kind == "hidden" else "fuse", sender, receiver, layers)
            for (kind, sender, receiver), layers in self.across.items()
        )
        return (*agents, *maps, *edges)

    def _behind(self, turn: Turn, at: _Arrived) -> Iterator[tuple[str, _Arrived]]:
        """What the gradient that has arrived at a turn goes on to."""
        agent = turn.agent
        count = self._count(agent)
        below = ((0, at.below(count) - 1),) if at.below(count) else ()
        looking = _both(below, at.sight)
        for entry in turn.sees:
            if entry.stop or entry.cut or entry.until is not None:
                continue
            if not (seen := intersection(entry.layers, looking)):
                continue
            think = self.turns[entry.segment].think
            whole = isinstance(entry, TraceOf) or entry.part == "all"
            sight = seen if isinstance(entry, TraceOf) else ()
            if think is not None and not think.stop:
                yield entry.segment, _Arrived(full=True, sight=sight)
            else:
                yield entry.segment, _Arrived(prompt=seen if whole else (), rest=seen, sight=sight)
        if not at.arrived:
            return
        for splice in turn.splices:
            if not splice.cut:
                self.across["hidden", agent_of(splice.segment), agent] = None
                if not splice.stop:
                    yield splice.segment, _Arrived(full=True)
        for fuse in turn.fuses:
            yield from self._through(fuse, agent, at.fused(count))

    def _through(self, fuse: Fuse, agent: str, matters: _Set) -> Iterator[tuple[str, _Arrived]]:
        """Through a fuser, of which some of the receiver's layers matter."""
        sender = agent_of(fuse.segment)
        key = "fuse", sender, agent
        own, theirs = self.known[agent], self.known[sender]
        if own is None or theirs is None:
            self.across[key] = None
            everywhere: _Set = ((0, self._count(sender) - 1),)
        else:
            shift = own - theirs  # layers are aligned from the last
            there = intersection(fuse.layers, ((max(0, shift), own - 1),))
            reached = intersection(there, matters)
            if not reached:
                return
            held = self.across.get(key, ())
            both = union(held, reached)
            self.across[key] = None if both == there or both is None else both
            everywhere = tuple((first - shift, last - shift) for first, last in reached)
        if not fuse.stop:
            yield fuse.segment, _Arrived(prompt=everywhere)

    def _count(self, agent: str) -> int:
        known = self.known[agent]
        return _MANY if known is None else known


def _both(a: _Set, b: _Set) -> _Set:
    return union(a, b) or ()


def _top(layers: _Set) -> int:
    """The topmost layer; -1 where there is none."""
    return layers[-1][1] if layers else -1


def _named(layer: int | None) -> int | None:
    """As the plan says it: -1 for the last layer of a model of which nobody knows how many it has."""
    return _LAST if layer is not None and layer > _MANY // 2 else layer
