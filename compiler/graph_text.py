"""The graph as text, for `--emit graph`: agents with what was resolved for them, then edges and outputs."""

from __future__ import annotations

from collections.abc import Iterator

from masc.compiler.graph import Agent, Edge, Graph
from masc.compiler.plan_text import number_text, quote


def print_graph(graph: Graph) -> str:
    """The text of a graph, with a line end after the last line."""
    return "\n".join(_lines(graph)) + "\n"


def _lines(graph: Graph) -> Iterator[str]:
    outputs = f" -> {', '.join(output for output, _ in graph.outputs)}" if graph.outputs else ""
    yield f"graph {graph.name}({', '.join(graph.inputs)}){outputs}"
    for model in graph.models:
        yield f"  model {model.name} = {quote(model.target)}"
    for agent in graph.agents:
        yield f"  agent {_agent(agent)}"
    for activation in graph.activations:
        yield f"  node {activation.id}"
    for edge in graph.edges:
        yield f"  edge {edge.sender} -> {edge.receiver} : {_edge(edge)}"
    for output, giver in graph.outputs:
        yield f"  give {giver} -> {output}"
    for output, column in graph.labels:
        yield f"  label {output} <- {column}"


def _agent(agent: Agent) -> str:
    lora = agent.lora
    words = [agent.name, "on", agent.model]
    if agent.steps:
        words.append(f"think {agent.steps} align={agent.align}")
    words.append(f"lora {lora.rank}/{number_text(lora.alpha)} {'+'.join(lora.targets)}" if lora else "frozen")
    if agent.answer is not None:
        words.append(f"answer {agent.answer.max_tokens}")
    return " ".join(words)


def _edge(edge: Edge) -> str:
    words = [edge.kind, f"carry={edge.carry}", f"merge={edge.merge}", f"gradient={edge.gradient}"]
    if edge.layers is not None:
        words.append(f"layers={edge.layers[0]}..{edge.layers[1]}")
    if edge.open is not None:
        words.append(f"open={edge.open.steps} as {edge.open.carry}")
    return " ".join(words)
