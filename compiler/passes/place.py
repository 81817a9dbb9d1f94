"""Place: what every turn sees, what arrives in its prompt, and at which position it starts
(docs/semantics.md, sections 4 and 5).

What a turn sees follows from its kv edges in textual order. `carry = trace` shows all that the sender sees and then its
segment, `own` its segment, `latents` the latent part; `open` adds what a wider carry would show, for a while. A segment
that arrives by several paths is seen once, each position and layer with the gradient of the widest path to it
(`sights.py`). Edges of other kinds arrive in the prompt.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Literal

from masc.compiler.analysis.sights import Sights, expanded, sight
from masc.compiler.channels import ARRIVALS, CHANNELS, PLAIN
from masc.compiler.ir.arrival import Arrival
from masc.compiler.ir.graph import Carry, Edge, Graph
from masc.compiler.ir.plan import End, Plan, TraceOf, Turn, View, agent_of
from masc.compiler.ir.views import distinct
from masc.dsl.diagnostics import Diagnostic, Label

Cut = Collection[tuple[str, str]]
Entry = View | TraceOf


def place(graph: Graph, plan: Plan, cut: Cut = ()) -> tuple[Plan, list[Diagnostic]]:
    """The plan with `sees`, `arrives` and `at` filled in.

    `cut`: edges (sender's and receiver's activation) that carry nothing. Positions and shifts stay those of the whole
    graph, so that cutting changes what is seen and nothing else.
    """
    decoding = {turn.activation for turn in plan.answering}
    thinking = {turn.activation for turn in plan.turns if turn.think is not None}
    stacking = any(edge.kind == PLAIN.kind and edge.merge == "stack" for edge in graph.edges)
    seen: Sights = {}
    """By activation, what it sees segment by segment: only where segments are moved does anything depend on that."""
    blank: set[str] = set()
    """Turns that see nothing: a trace through them is their segment."""
    turns: list[Turn] = []
    problems: list[Diagnostic] = []
    for turn in plan.turns:
        name = turn.activation
        edges = graph.incoming(name, PLAIN.kind)
        offsets = _offsets(edges, seen) if stacking else dict.fromkeys((edge.sender for edge in edges), ())
        shown = [
            (edge, entry)
            for edge in edges
            for entry in _shown(edge, offsets[edge.sender], thinking, blank, (edge.sender, name) in cut)
        ]
        turn = replace(
            turn,
            sees=distinct(entry for _, entry in shown),
            at=_ends(shown, decoding),
            arrives=tuple(_arrivals(graph, name, cut)),
        )
        if stacking:
            problems += _two_places(name, shown, seen)
            seen[name] = sight(turn, seen)
        if not turn.sees:
            blank.add(name)
        turns.append(turn)
    return replace(plan, turns=tuple(turns)), problems


def _shown(
    edge: Edge, shift: tuple[str, ...], thinking: Collection[str], blank: Collection[str], cut: bool
) -> Iterator[Entry]:
    """What one kv edge shows of its sender."""
    carries: list[tuple[Carry, int | None]] = [(edge.carry, None)]
    if edge.open is not None:
        carries.append((edge.open.carry, edge.open.steps))
    layers = None if edge.layers is None else (edge.layers,)
    stop = edge.gradient == "stop"
    gates = ((agent_of(edge.sender), agent_of(edge.receiver)),) if edge.gated else ()
    for carry, until in carries:
        if carry == "trace" and edge.sender not in blank:
            yield TraceOf(edge.sender, layers, stop, shift, until, cut, gates)
        elif carry != "latents":
            yield View(edge.sender, "all", layers, stop, shift, until, cut, gates)
        elif edge.sender in thinking:
            yield View(edge.sender, "latents", layers, stop, shift, until, cut, gates)


def _ends(shown: list[tuple[Edge, Entry]], decoding: Collection[str]) -> tuple[End, ...]:
    """Where what is seen ends; where nothing is decoded, the latents' end is the segment's. What a sender sees itself
    ended before the sender began."""
    entries = [entry for _, entry in shown]
    ends = (End(e.segment, "all" if e.segment not in decoding else _part(e), e.shift) for e in entries)
    return tuple(dict.fromkeys(ends))


def _part(entry: Entry) -> Literal["all", "latents"]:
    return entry.part if isinstance(entry, View) else "all"


def _arrivals(graph: Graph, receiver: str, cut: Cut) -> Iterator[Arrival]:
    """What comes to a receiver's prompt, channel by channel."""
    edges = graph.incoming(receiver)
    for kind in (arrival.kind for arrival in ARRIVALS.values()):
        brings = CHANNELS[kind].brings
        if brings is None:
            continue
        for edge in edges:
            if edge.kind == kind and (brought := brings(edge, graph, (edge.sender, receiver) in cut)) is not None:
                yield brought


def _offsets(edges: tuple[Edge, ...], seen: Sights) -> dict[str, tuple[str, ...]]:
    """By how much each sender's own segment moves: past the siblings before it, if they are stacked.

    A sender that saw another one (or that another one saw) already lies behind (or before) it and is no sibling of it.
    """
    senders = [edge.sender for edge in edges]
    saw = {sender: {view.segment for view in seen[sender]} for sender in senders}
    stacked = {edge.sender: edge.merge == "stack" for edge in edges}
    return {
        sender: tuple(o for o in senders[:i] if o not in saw[sender] and sender not in saw[o])
        if stacked[sender]
        else ()
        for i, sender in enumerate(senders)
    }


def _two_places(receiver: str, shown: list[tuple[Edge, Entry]], seen: Sights) -> Iterator[Diagnostic]:
    """E0316 for every segment that paths move to different places."""
    places: dict[str, dict[tuple[str, ...], Edge]] = {}
    for edge, entry in shown:
        for view in expanded(entry, seen):
            if view.shift:
                places.setdefault(view.segment, {}).setdefault(view.shift, edge)
    for segment, by_shift in places.items():
        if len(by_shift) > 1:
            yield _at_two_places(segment, receiver, list(by_shift.values()))


def _at_two_places(segment: str, receiver: str, edges: list[Edge]) -> Diagnostic:
    agent, goal = agent_of(segment), agent_of(receiver)
    message = f"what `{agent}` wrote arrives at two places in what `{goal}` sees"
    labels = tuple(Label(edge.span, "the other path starts here") for edge in edges[1:])
    hint = "use `merge = stack` for it once, or `carry = own` on one of the paths"
    return Diagnostic("E0316", message, edges[0].span, labels, hint)
