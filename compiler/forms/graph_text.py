"""The graph as text, for `--emit graph`: agents with what was resolved for them, then edges and outputs."""

from __future__ import annotations

from collections.abc import Iterator

from masc.compiler.channels import CHANNELS
from masc.compiler.ir.adapter import adapter_text
from masc.compiler.ir.graph import Agent, Edge, Graph, Loop
from masc.compiler.ir.model import told_text
from masc.compiler.ir.words import quote
from masc.dsl.formatter import format_column


def print_graph(graph: Graph) -> str:
    """The text of a graph, with a line end after the last line."""
    return "\n".join(_lines(graph)) + "\n"


def _lines(graph: Graph) -> Iterator[str]:
    outputs = f" -> {', '.join(output for output, _ in graph.outputs)}" if graph.outputs else ""
    yield f"graph {graph.name}({', '.join(graph.inputs)}){outputs}"
    for model in graph.models:
        yield f"  model {model.name} = {quote(model.target)}{model.loading.text}"
    for agent in graph.agents:
        yield f"  agent {_agent(agent)}"
    for activation in graph.activations:
        yield f"  node {activation.id}"
    for loop in graph.loops:
        yield f"{_margin(graph, loop)}repeat {loop.count}: {', '.join(loop.agents)}"
    for edge in graph.edges:
        yield f"  edge {edge.sender} -> {edge.receiver} : {_edge(edge)}"
    for output, giver in graph.outputs:
        yield f"  give {giver} -> {output}"
    for output, column in graph.labels:
        yield f"  label {output} <- {format_column(column)}"
    for name, column in graph.columns:
        yield f"  column {name} <- {format_column(column)}"


def _agent(agent: Agent) -> str:
    words = [agent.name, "on", agent.model]
    if agent.steps:
        words.append(f"think {agent.steps} align={agent.align}" + " stop" * (agent.gradient == "stop"))
    words.append(adapter_text(agent.lora, agent.shares, "graph"))
    if agent.variables:
        told = told_text(tuple((one.name, one.value) for one in agent.variables))
        words.append(f"template {told}")
    if agent.answer is not None:
        words.append(f"answer {agent.answer.max_tokens}")
    return " ".join(words)


def _margin(graph: Graph, loop: Loop) -> str:
    return "  " + (_margin(graph, graph.loops[loop.parent]) if loop.parent is not None else "")


def _edge(edge: Edge) -> str:
    """The kind, with the options that mean something for it."""
    options = CHANNELS[edge.kind].options
    values = {name: option.text(option.of(edge)) for name, option in options.items()}
    return " ".join([edge.kind, *(f"{name}={value}" for name, value in values.items() if value)])
