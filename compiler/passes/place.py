"""Place: what every activation sees, and at which position it starts.

The receiver's list follows from its kv edges in textual order. `carry = trace` hands on all that the sender sees and
then its segment, `own` its segment, `latents` the latent part; `open` adds what a wider carry would have handed on, for
a while. A segment that arrives by several paths is seen once, each position and layer with the gradient of the widest
path to it. Edges of other kinds arrive in the prompt.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from masc.compiler.ir.graph import Carry, Edge, Graph
from masc.compiler.ir.plan import Answer, End, Fuse, Plan, Prefill, Read, Splice, Think, View, agent_of
from masc.compiler.ir.ranges import intersection
from masc.compiler.ir.views import distinct
from masc.dsl.diagnostics import Diagnostic, Label

Sight = dict[str, tuple[View, ...]]
Cut = Collection[tuple[str, str]]


def place(graph: Graph, plan: Plan, cut: Cut = ()) -> tuple[Plan, list[Diagnostic]]:
    """The plan with `sees` and `at` filled in.

    `cut`: edges (sender's and receiver's activation) that carry nothing. Positions and shifts stay those of the whole
    graph, so that cutting changes what is seen and nothing else.
    """
    order = [operation.activation for operation in plan.operations if isinstance(operation, Prefill)]
    thinking = {operation.activation for operation in plan.operations if isinstance(operation, Think)}
    decoding = {operation.activation for operation in plan.operations if isinstance(operation, Answer)}
    placer = _Placer(graph, thinking)
    whole: Sight = {}
    problems: list[Diagnostic] = []
    for name in order:
        whole[name] = placer.look(name, whole, problems)
    sight = whole
    if cut:
        sight = {}
        for name in order:
            shifts = {view.segment: view.shift for view in whole[name]}
            views = placer.look(name, sight, [], cut)
            sight[name] = tuple(replace(view, shift=shifts[view.segment]) for view in views)
    operations = tuple(
        replace(
            o, sees=sight[o.activation], at=_ends(whole[o.activation], decoding), **_arrivals(graph, o.activation, cut)
        )
        if isinstance(o, Prefill)
        else o
        for o in plan.operations
    )
    return replace(plan, operations=operations), problems


def _ends(views: tuple[View, ...], decoding: Collection[str]) -> tuple[End, ...]:
    """Where the seen segments end; where nothing is decoded, the latents' end is the segment's."""
    ends = (End(v.segment, v.part if v.segment in decoding else "all", v.shift) for v in views)
    return tuple(dict.fromkeys(ends))


def _arrivals(graph: Graph, receiver: str, cut: Cut) -> dict[str, Any]:
    """What comes to a receiver otherwise than as keys and values to look at: fields of its Prefill."""
    reads, splices, fuses = [], [], []
    for edge in graph.incoming(receiver):
        gone, stop = (edge.sender, receiver) in cut, edge.gradient == "stop"
        if edge.kind == "text":
            reads.append(Read(edge.sender, gone))
        elif edge.kind == "hidden" and not (edge.carry == "latents" and not graph.agent(agent_of(edge.sender)).steps):
            part: Literal["all", "latents"] = "latents" if edge.carry == "latents" else "all"
            splices.append(Splice(edge.sender, part, edge.shape, stop, gone))
        elif edge.kind == "fuse" and not gone:
            fuses.append(Fuse(edge.sender, None if edge.layers is None else (edge.layers,), edge.width, stop))
    return {"reads": tuple(reads), "splices": tuple(splices), "fuses": tuple(fuses)}


@dataclass(frozen=True)
class _Placer:
    graph: Graph
    thinking: Collection[str]

    def look(
        self, receiver: str, sight: Mapping[str, tuple[View, ...]], problems: list[Diagnostic], cut: Cut = ()
    ) -> tuple[View, ...]:
        """What a receiver sees, given what its senders see."""
        edges = self.graph.incoming(receiver, "kv")
        offsets = _offsets(edges, sight)
        found: list[View] = []
        places: dict[str, dict[tuple[str, ...], Edge]] = {}
        for edge in edges:
            for view in self._contributions(edge, sight, offsets) if (edge.sender, receiver) not in cut else ():
                found.append(view)
                if view.shift:
                    places.setdefault(view.segment, {}).setdefault(view.shift, edge)
        for segment, by_shift in places.items():
            if len(by_shift) > 1:
                problems.append(_two_places(segment, receiver, list(by_shift.values())))
        shifts = {segment: next(iter(by_shift)) for segment, by_shift in places.items()}
        return distinct(replace(view, shift=shifts.get(view.segment, ())) for view in found)

    def _contributions(
        self, edge: Edge, sight: Mapping[str, tuple[View, ...]], offsets: Mapping[str, tuple[str, ...]]
    ) -> Iterator[View]:
        yield from self._carried(edge, edge.carry, None, sight, offsets)
        if edge.open is not None:
            yield from self._carried(edge, edge.open.carry, edge.open.steps, sight, offsets)

    def _carried(
        self,
        edge: Edge,
        carry: Carry,
        until: int | None,
        sight: Mapping[str, tuple[View, ...]],
        offsets: Mapping[str, tuple[str, ...]],
    ) -> Iterator[View]:
        layers = None if edge.layers is None else (edge.layers,)
        stop = edge.gradient == "stop"
        if carry == "trace":
            for view in sight[edge.sender]:
                seen = intersection(view.layers, layers)
                if seen != ():
                    yield replace(view, layers=seen, stop=view.stop or stop, until=_sooner(view.until, until))
        if carry == "latents" and edge.sender not in self.thinking:
            return
        yield View(
            edge.sender,
            part="latents" if carry == "latents" else "all",
            layers=layers,
            stop=stop,
            shift=offsets[edge.sender],
            until=until,
        )


def _offsets(edges: tuple[Edge, ...], sight: Mapping[str, tuple[View, ...]]) -> dict[str, tuple[str, ...]]:
    """By how much each sender's own segment moves: past the siblings before it, if they are stacked.

    A sender that saw another one (or that another one saw) already lies behind (or before) it and is no sibling of it.
    """
    senders = [edge.sender for edge in edges]
    saw = {sender: {view.segment for view in sight[sender]} for sender in senders}
    stacked = {edge.sender: edge.merge == "stack" for edge in edges}
    return {
        sender: tuple(o for o in senders[:i] if o not in saw[sender] and sender not in saw[o])
        if stacked[sender]
        else ()
        for i, sender in enumerate(senders)
    }


def _sooner(a: int | None, b: int | None) -> int | None:
    return min((x for x in (a, b) if x is not None), default=None)


def _two_places(segment: str, receiver: str, edges: list[Edge]) -> Diagnostic:
    agent, goal = segment.rpartition("#")[0], receiver.rpartition("#")[0]
    message = f"what `{agent}` wrote arrives at two places in what `{goal}` sees"
    labels = tuple(Label(edge.span, "the other path starts here") for edge in edges[1:])
    hint = "use `merge = stack` for it once, or `carry = own` on one of the paths"
    return Diagnostic("E0316", message, edges[0].span, labels, hint)
