"""A graph as it was written: its repeats are unrolled, and here they are rolled up again, for drawings."""

from __future__ import annotations

from dataclasses import dataclass, replace

from masc.compiler.ir.graph import Edge, Graph, Loop
from masc.compiler.ir.plan import agent_of


@dataclass(frozen=True)
class Repeat:
    """A `repeat` that is drawn around `agents`, and around `inner` repeats."""

    title: str
    agents: tuple[str, ...]
    inner: tuple[Repeat, ...]


def rolled(graph: Graph) -> tuple[Edge, ...]:
    """The edges between agents: those of one kind between the same two are one, however often they run."""
    found: dict[tuple[str, str, str], Edge] = {}
    for edge in graph.edges:
        sender, receiver = agent_of(edge.sender), agent_of(edge.receiver)
        found.setdefault((sender, receiver, edge.kind), replace(edge, sender=sender, receiver=receiver))
    return tuple(found.values())


def backward(graph: Graph, edges: tuple[Edge, ...]) -> frozenset[Edge]:
    """Of rolled edges those that go back: each that closes a circle with edges before it. Only repeats have circles."""
    looping = {name for loop in graph.loops for name in loop.agents}
    after: dict[str, set[str]] = {}
    found = set()
    for edge in edges:
        if not {edge.sender, edge.receiver} <= looping:
            continue
        if edge.sender in _reached(after, edge.receiver):
            found.add(edge)
        else:
            after.setdefault(edge.sender, set()).add(edge.receiver)
    return frozenset(found)


def _reached(after: dict[str, set[str]], start: str) -> set[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += after.get(name, ())
    return found


def homes(graph: Graph) -> dict[str, int]:
    """The place of the repeat that each looping agent is drawn in: of those side by side the first that holds it, in
    that one the first inside, and so on. A picture can show an agent in one place only."""
    found: dict[str, int] = {}
    for place, loop in enumerate(graph.loops):  # outer ones first
        for name in loop.agents:
            if found.get(name) == loop.parent:
                found[name] = place
    return found


def repeats(graph: Graph) -> tuple[Repeat, ...]:
    """The outermost repeats, for drawing. One with all of its agents drawn elsewhere is told in the title there."""
    home = homes(graph)
    inside: list[list[str]] = [[] for _ in graph.loops]  # directly or further in
    for name in dict.fromkeys(a.agent for a in graph.activations):
        place = home.get(name)
        while place is not None:
            inside[place].append(name)
            place = graph.loops[place].parent
    titles = [
        [_words(loop, "with", [n for n in loop.agents if n not in names])] if names else []
        for loop, names in zip(graph.loops, inside, strict=True)
    ]
    for loop, names in zip(graph.loops, inside, strict=True):
        if not names:
            host = home[loop.agents[0]]
            titles[host].append(_words(loop, "of", [] if set(loop.agents) == set(inside[host]) else loop.agents))

    def below(parent: int | None) -> tuple[Repeat, ...]:
        places = [place for place, loop in enumerate(graph.loops) if loop.parent == parent and inside[place]]
        return tuple(
            Repeat(", ".join(titles[p]), tuple(n for n in inside[p] if home[n] == p), below(p)) for p in places
        )

    return below(None)


def _words(loop: Loop, link: str, names: list[str] | tuple[str, ...]) -> str:
    return f"repeat {loop.count}" + (f" {link} {', '.join(names)}" if names else "")
