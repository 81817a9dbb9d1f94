"""Verifiers: what must hold after each pass, whatever the input was. A failure is a bug in masc, not in the file."""

from __future__ import annotations

from masc.compiler.graph import Graph
from masc.compiler.plan import Answer, End, Fuse, Loss, Plan, Prefill, Reach, Read, Splice, Think, View, agent_of
from masc.compiler.ranges import union
from masc.compiler.resolved import Resolved
from masc.dsl import syntax


class VerifierError(AssertionError):
    """A pass broke its promise."""


def _hold(condition: bool, promise: str) -> None:
    if not condition:
        raise VerifierError(f"after this pass {promise}")


def verify_tree(file: syntax.File) -> None:
    for declaration in file.declarations:
        span = declaration.span
        _hold(0 <= span.start <= span.end <= len(span.source.text), "every declaration lies in its source")


def verify_resolved(resolved: Resolved) -> None:
    names = {agent.name for agent in resolved.agents}
    _hold(len(names) == len(resolved.agents), "agents have different names")
    _hold(names <= resolved.written.keys(), "every agent was written somewhere")
    there = set(resolved.mentions)
    _hold(names >= there, "every agent in the graph is known")
    for link in resolved.links:
        _hold({link.edge.sender, link.edge.receiver} <= there, "edges join agents of the graph")
    _hold({g.output for g in resolved.gives} <= {o.text for o in resolved.outputs}, "what is given is an output")


def verify_graph(graph: Graph) -> None:
    ids = {activation.id for activation in graph.activations}
    agents = {agent.name for agent in graph.agents}
    _hold(len(ids) == len(graph.activations), "every activation is there once")
    _hold({activation.agent for activation in graph.activations} == agents, "agents and activations match")
    for edge in graph.edges:
        _hold(edge.sender in ids and edge.receiver in ids and edge.sender != edge.receiver, "edges join activations")
    for _, activation in graph.outputs:
        _hold(activation in ids, "outputs are given by activations")


def verify_plan(plan: Plan) -> None:
    """Every segment is written before it is seen; a Loss has its Answer; layers are sorted; names are known."""
    models, agents = {m.name for m in plan.models}, {a.name: a for a in plan.agents}
    _hold(all(agent.model in models for agent in plan.agents), "every agent's model is in the plan")
    written: set[str] = set()
    said: set[str] = set()
    current, stage, answered = "", 0, set()
    for o in plan.operations:
        if isinstance(o, Loss):
            _hold(o.output in answered, "every loss has its answer before it")
            reached = [r for r in o.reaches if isinstance(r, Reach)]
            _hold(all(r.agent in agents and agents[r.agent].lora for r in reached), "losses reach adapters")
            continue
        if isinstance(o, Prefill):
            _hold(o.activation not in written and agent_of(o.activation) in agents, "a segment is opened once")
            places: tuple[View | End, ...] = (*o.sees, *o.at)
            named = [s for place in places for s in (place.segment, *place.shift)]
            arriving: tuple[Read | Splice | Fuse, ...] = (*o.reads, *o.splices, *o.fuses)
            named += [arrival.segment for arrival in arriving]
            _hold(said >= {read.segment for read in o.reads}, "every text is said before it is read")
            _hold(written >= set(named), "every segment is written before it is seen")
            keys = [(view.segment, view.until) for view in o.sees]
            _hold(len(set(keys)) == len(keys), "a segment is seen once at a time")
            for view in o.sees:
                _hold(view.layers is None or view.layers == union(view.layers, ()) != (), "layers are sorted ranges")
            written.add(o.activation)
            current, stage = o.activation, 0
            continue
        step = 1 if isinstance(o, Think) else 2
        _hold(o.activation == current and step > stage, "an activation prefills, thinks, answers, in this order")
        stage = step
        if isinstance(o, Think):
            _hold(o.steps >= 1, "an agent that thinks has steps")
        elif isinstance(o, Answer):
            _hold(o.name not in answered, "an output is given once")
            answered.add(o.name)
            said.add(o.activation)
    _hold(answered - said == set(plan.outputs), "every output is given")
