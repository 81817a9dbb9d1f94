"""Verifiers: what must hold after each pass, whatever the input was. A failure is a bug in masc, not in the file."""

from __future__ import annotations

from masc.compiler.analysis.verify_plan import broken
from masc.compiler.channels import CHANNELS
from masc.compiler.ir.graph import Graph
from masc.compiler.ir.plan import Plan
from masc.compiler.ir.resolved import Resolved
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
        _hold(edge.kind in CHANNELS, "every edge is of a declared kind")
    for _, activation in graph.outputs:
        _hold(activation in ids, "outputs are given by activations")


def verify_plan(plan: Plan) -> None:
    """See `verify_plan.py`."""
    promise = broken(plan)
    _hold(promise is None, promise or "")
