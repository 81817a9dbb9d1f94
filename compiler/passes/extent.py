"""How large the plan of a graph would be, told before it is made.

A plan passes traces on by reference, so that a chain is as long as it is written. Where segments are listed one by one,
these lists grow with the square of a chain's length: where siblings are stacked, since each segment has its own place
then, and where all that an agent would see is told in text. Each loss lists what it reaches. What is a fair graph and
what fills the memory may differ in one number of rounds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from masc.compiler.channels import CHANNELS, PLAIN
from masc.compiler.ir.graph import Graph
from masc.compiler.ir.plan import agent_of
from masc.compiler.passes.order import order
from masc.dsl.diagnostics import Diagnostic
from masc.dsl.limits import REACHES, VIEWS


def too_large(graph: Graph, listed: bool = False) -> Diagnostic | None:
    """E0328 where the kv edges of a graph carry more segments than can be listed, E0329 where its losses reach back
    through more. listed: segments are listed one by one, whether they are stacked or not."""
    stacks = any(edge.merge == "stack" for edge in graph.edges)
    activations = order(graph)
    if any(edge.gated for edge in graph.edges) and (tangled := _tangled(graph, activations)) is not None:
        return tangled
    if (listed or stacks) and (crowded := _crowded(graph, activations)) is not None:
        return crowded
    place = {activation: i for i, activation in enumerate(activations)}
    behind: dict[str, int] = {}
    """By activation: those that something may come from with a gradient, itself among them, as the bits of a number."""
    for activation in activations:
        back = 1 << place[activation]
        for edge in graph.incoming(activation):
            back |= behind[edge.sender] if not CHANNELS[edge.kind].words and edge.gradient != "stop" else 0
        behind[activation] = back
    entries = [len(graph.incoming(activation)) for activation in activations]
    reached = work = 0
    for activation in _supervised(graph):
        reached += behind[activation].bit_count()
        if reached <= REACHES:
            work += sum(entries[i] for i in _bits(behind[activation]))
        if reached > REACHES or work > 20 * REACHES:
            return _reached(graph, activation)
    return None


def _crowded(graph: Graph, activations: Sequence[str]) -> Diagnostic | None:
    """E0328, if every segment that an activation sees is listed."""
    place = {activation: i for i, activation in enumerate(activations)}
    sees: dict[str, int] = {}
    """By activation: the segments that it sees, as the bits of a number."""
    moved: dict[str, int] = {}
    """By activation: past how many others a segment in its sight was moved, at most (`merge = stack`)."""
    total = 0
    for activation in activations:
        seen = past = stacked = 0
        for edge in graph.incoming(activation, PLAIN.kind):
            carries = [edge.carry, *([edge.open.carry] if edge.open else [])]
            stacked += edge.merge == "stack"
            handed = sees[edge.sender].bit_count() if "trace" in carries or edge.merge == "stack" else 0
            if "trace" in carries:
                seen |= sees[edge.sender]
                past = max(past, moved[edge.sender])
            seen |= 1 << place[edge.sender]
            total += len(carries) * (handed + 1) * (1 + moved[edge.sender] // 8)
        total += stacked * stacked // 8
        if total > VIEWS:
            return _carried(graph, activation, len(activations))
        sees[activation], moved[activation] = seen, max(past, stacked)
    return None


def _tangled(graph: Graph, activations: Sequence[str]) -> Diagnostic | None:
    """E0363, if every way in which gates let an activation see a segment is listed: with traces there may be as many as
    there are paths."""
    sees: dict[str, dict[str, set[frozenset[tuple[str, str]]]]] = {}
    total = 0
    for activation in activations:
        found: dict[str, set[frozenset[tuple[str, str]]]] = {}
        for edge in graph.incoming(activation, PLAIN.kind):
            own = frozenset({(agent_of(edge.sender), agent_of(activation))} if edge.gated else ())
            found.setdefault(edge.sender, set()).add(own)
            carries = [edge.carry, *([edge.open.carry] if edge.open else [])]
            for segment, ways in sees[edge.sender].items() if "trace" in carries else ():
                found.setdefault(segment, set()).update(own | way for way in ways)
            if total + sum(map(len, found.values())) > VIEWS:
                agent = agent_of(activation)
                message = f"up to `{agent}` more than {VIEWS:,} paths lead through gates"
                hint = "`carry = own` hands on one segment, and an edge without `gate` is no choice"
                return Diagnostic("E0363", message, edge.span, hint=hint)
        sees[activation] = {segment: _fewest(ways) for segment, ways in found.items()}
        total += sum(len(ways) for ways in sees[activation].values())
    return None


def _fewest(ways: set[frozenset[tuple[str, str]]]) -> set[frozenset[tuple[str, str]]]:
    """Those that need no more gates than another one does."""
    kept: list[frozenset[tuple[str, str]]] = []
    for way in sorted(ways, key=len):
        if len(ways) > 256 or not any(other <= way for other in kept):  # where there are very many, none is left out
            kept.append(way)
    return set(kept)


def _supervised(graph: Graph) -> Iterator[str]:
    """The activations whose text has a loss."""
    given = {activation for _, activation in graph.outputs}
    labelled = dict(graph.labels)
    telling = dict.fromkeys(edge.sender for edge in graph.edges if CHANNELS[edge.kind].words)
    yield from given
    yield from (activation for activation in telling if activation not in given and agent_of(activation) in labelled)


def _bits(number: int) -> Iterator[int]:
    while number:
        lowest = number & -number
        yield lowest.bit_length() - 1
        number ^= lowest


def _carried(graph: Graph, activation: str, count: int) -> Diagnostic:
    edges = graph.incoming(activation, PLAIN.kind)
    edge = next((edge for edge in edges if edge.carry == "trace"), edges[0])
    message = f"too much is handed on: up to here more than {VIEWS:,} segments go from agent to agent"
    agent = agent_of(activation)
    hint = f"with `carry = trace` `{agent}` sees all that came before; `carry = own` or `latents` hands on one segment"
    if count > len(graph.agents):
        hint += ", and fewer rounds hand on fewer"
    return Diagnostic("E0328", message, edge.span, hint=hint)


def _reached(graph: Graph, activation: str) -> Diagnostic:
    agent = graph.agent(agent_of(activation))
    message = (
        f"too much is supervised: with `{agent.name}` the losses reach back through more than {REACHES:,} segments"
    )
    hint = "supervise fewer texts, or stop the gradient on some edges: `kv(gradient = stop)`"
    return Diagnostic("E0329", message, agent.span, hint=hint)
