"""Which turns of a plan may run side by side, and how long what they wrote is needed.

A *wave* holds the turns whose last predecessors are all in earlier waves, so that those of one wave do not depend on
each other. The plan itself stays as it is: its turns stand one behind the other.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from masc.compiler.analysis.sights import Sights, sights
from masc.compiler.ir.plan import Plan, Turn, agent_of
from masc.compiler.language.alignments import ALIGNMENTS


@dataclass(frozen=True)
class Needed:
    """What later turns read of what a turn wrote, by who they are.

    all, latents   keys and values of all its positions, or of no more than its latents
    prompt         keys and values of its prompt, and which tokens it was
    hidden         final hidden states of prompt and latents
    text           what it said
    """

    all: tuple[str, ...] = ()
    latents: tuple[str, ...] = ()
    prompt: tuple[str, ...] = ()
    hidden: tuple[str, ...] = ()
    text: tuple[str, ...] = ()

    @property
    def readers(self) -> frozenset[str]:
        return frozenset((*self.all, *self.latents, *self.prompt, *self.hidden, *self.text))


def waves(plan: Plan) -> tuple[tuple[Turn, ...], ...]:
    """The turns, wave by wave; in a wave in the order of the plan."""
    depth: dict[str, int] = {}
    for turn in plan.turns:
        depth[turn.activation] = max((depth[name] + 1 for name in before(turn)), default=0)
    found: dict[int, list[Turn]] = {}
    for turn in plan.turns:
        found.setdefault(depth[turn.activation], []).append(turn)
    return tuple(tuple(found[number]) for number in sorted(found))


def stages(plan: Plan) -> list[list[Turn]]:
    """The turns of each wave that can run in one batch: on one model, answering or not, their prompts changed by others
    or not; adapters that do more than add one at a time."""
    found: list[list[Turn]] = []
    for wave in waves(plan):
        alike: dict[Hashable, list[Turn]] = {}
        for turn in wave:
            agent = plan.agent(turn.agent)
            alone = agent.adapter if agent.lora is not None and not agent.lora.additive else None
            alike.setdefault((turn.answer is not None, agent.model, turn.changed, alone), []).append(turn)
        found += sorted(alike.values(), key=lambda turns: turns[0].answer is not None)
    return found


PADDING = 1.5
"""Of siblings that training computes in one batch: so many times as many columns of prompts as they would have apart
may be read, all of them as wide as the widest."""


def fits(widths: Sequence[int]) -> bool:
    """Whether siblings with prompts of these widths are computed in one batch."""
    return len(widths) > 1 and max(widths) * len(widths) <= PADDING * sum(widths)


def siblings(plan: Plan, seen: Sights | None = None) -> Mapping[str, tuple[str, ...]]:
    """By activation those of its stage (itself among them, in the order of the plan) with which training can compute it
    in one batch; activations that have none are missing. seen: `sights(plan)`, if it is known.

    They answer nothing, think alike, have adapters of one shape, and turns that are read alike themselves read the same
    of each: where a gradient reaches one, it reaches all, and no gradient of zeros stands where there is none. No gate
    has a say."""
    views = sights(plan) if seen is None else seen
    read = _readings(plan, views)
    found: dict[Hashable, list[str]] = {}
    for number, stage in enumerate(stages(plan)):
        for turn in stage:
            gates = [*(gate for view in views[turn.activation] for gate in view.gates)]
            if not _alone(plan, turn) and not gates:
                own = plan.agent(turn.agent).lora
                shape = own and (own.rank, own.targets)
                alike = number, turn.think, turn.gradient, shape, read[turn.activation]
                found.setdefault(alike, []).append(turn.activation)
    groups = [tuple(names) for names in found.values() if len(names) > 1 and _distinct(plan, names)]
    return {name: names for names in groups for name in names}


def _readings(plan: Plan, views: Sights) -> Mapping[str, frozenset[Hashable]]:
    """What is read of each turn, and by turns of which kind: those of one kind pass gradients back alike, for they
    think alike, have a loss or have none, and the same is read of them in turn."""
    read: dict[str, set[Hashable]] = {turn.activation: set() for turn in plan.turns}
    kinds: dict[Hashable, int] = {}
    told = {loss.output for loss in plan.losses}
    for turn in reversed(plan.turns):  # whoever reads a turn stands behind it
        kept = frozenset(keep.what for keep in turn.keeps)
        answers = turn.answer is not None and turn.said in told
        kind = plan.agent(turn.agent).model, turn.think, turn.gradient, kept, answers, frozenset(read[turn.activation])
        reader = kinds.setdefault(kind, len(kinds))
        for view in views[turn.activation]:
            read[view.segment].add((reader, replace(view, segment="", shift=())))
        for arrival in turn.arrives:
            what = arrival if arrival.gated else replace(arrival, segment="")  # each edge has a gate of its own
            read[arrival.segment].add((reader, what))
    return {name: frozenset(what) for name, what in read.items()}


def _alone(plan: Plan, turn: Turn) -> bool:
    """Whether what a turn does cannot be done for several in one batch."""
    lora = plan.agent(turn.agent).lora
    drops = lora is not None and (lora.dropout > 0 or not lora.additive)
    own = turn.think is not None and ALIGNMENTS[turn.think.align].trained
    return turn.answer is not None or turn.changed or drops or own or any(one.gated for one in turn.arrives)


def _distinct(plan: Plan, names: list[str]) -> bool:
    """Whether each has an adapter of its own, or none has one."""
    adapters = [plan.agent(agent_of(name)).adapter for name in names]
    return adapters == [None] * len(adapters) or len(set(adapters)) == len(adapters)


def before(turn: Turn) -> Iterator[str]:
    """The turns that must be through: it reads of them, or their lengths say where something stands."""
    for entry in turn.sees:
        yield entry.segment
        yield from entry.shift
    for end in turn.at:
        yield end.segment
        yield from end.shift
    for arrival in turn.arrives:
        yield arrival.segment


_NAMES = {"cache": "all"}


def needed(plan: Plan, seen: Sights | None = None) -> Mapping[str, Needed]:
    """For each turn what is read of it when the plan runs, and by whom. seen: `sights(plan)`, if it is known.

    What is cut is not read, and channels are closed: of an `open` one the final views count."""
    found: dict[str, dict[str, list[str]]] = {turn.activation: {} for turn in plan.turns}

    def note(segment: str, what: str, by: str) -> None:
        readers = found[segment].setdefault(what, [])
        if by not in readers:
            readers.append(by)

    views = sights(plan) if seen is None else seen
    for turn in plan.turns:
        for view in views[turn.activation]:
            if view.until is None:
                note(view.segment, view.part, turn.activation)
        for arrival in turn.arrives:
            note(arrival.segment, _NAMES.get(arrival.keeps, arrival.keeps), turn.activation)
    return {name: Needed(**{what: tuple(by) for what, by in each.items()}) for name, each in found.items()}
