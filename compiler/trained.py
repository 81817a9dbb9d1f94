"""Adapters that no loss would ever train: worth a warning, because nothing else would show it."""

from __future__ import annotations

from masc.compiler.graph import Graph
from masc.compiler.plan import Loss, Plan, agent_of
from masc.dsl.diagnostics import Diagnostic, Label


def frozen_out(graph: Graph, plan: Plan) -> list[Diagnostic]:
    """A warning for each agent with an adapter that is in no loss's `reaches`."""
    reached = {reach.agent for o in plan.operations if isinstance(o, Loss) for reach in o.reaches}
    found = []
    for agent in graph.agents:
        if agent.lora is None or agent.name in reached:
            continue
        stops = [e for e in graph.edges if e.gradient == "stop" and _upstream(graph, agent.name, e.sender)]
        idle = all(e.carry == "latents" and not agent.steps for e in graph.edges if agent_of(e.sender) == agent.name)
        if idle and not stops:
            continue  # W0301 has said so
        labels = tuple(Label(edge.span, "the gradient stops here") for edge in stops)
        hint = f"write `adapt none` in `{agent.name}`" + (", or let the gradient through" if stops else "")
        message = f"no gradient reaches the adapter of `{agent.name}`: training would leave it as it is"
        found.append(Diagnostic("W0303", message, agent.span, labels, hint))
    return found


def _upstream(graph: Graph, agent: str, activation: str) -> bool:
    """Whether something of the agent may arrive at an activation."""
    seen: set[str] = set()
    waiting = [activation]
    while waiting:
        name = waiting.pop()
        if agent_of(name) == agent:
            return True
        if name not in seen:
            seen.add(name)
            waiting += [edge.sender for edge in graph.incoming(name)]
    return False
