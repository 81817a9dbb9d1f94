"""What a drawing shows, whatever it is drawn with: nodes, links and frames with their words chosen."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

from masc.compiler.graph import Activation, Agent, Carry, Edge, Graph
from masc.compiler.plan import Slot


@dataclass(frozen=True)
class Node:
    """`id` is a plain identifier that no drawing language reserves."""

    id: str
    kind: Literal["input", "agent", "output"]
    title: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Link:
    """An edge between agents has the `carry` that decides its line; one from an input or to an output has none."""

    source: str
    target: str
    carry: Carry | None = None
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sketch:
    """`frames`: the senders of each fan-in, drawn in a box of their own."""

    name: str
    nodes: tuple[Node, ...]
    links: tuple[Link, ...]
    frames: tuple[tuple[str, ...], ...]


def sketch(graph: Graph) -> Sketch:
    """Choose what is drawn of a graph, in its textual order."""
    ids = {a.id: f"agent_{a.agent}_{a.round}" for a in graph.activations}
    labels = dict(graph.labels)
    inputs = [Node(f"input_{name}", "input", name) for name in graph.inputs]
    agents = [
        Node(ids[a.id], "agent", _title(graph, a), _facts(graph, graph.agent(a.agent))) for a in graph.activations
    ]
    outputs = [
        Node(f"output_{name}", "output", name, (f"trained on {labels[name]}",) if name in labels else ())
        for name, _ in graph.outputs
    ]
    reads = [
        Link(f"input_{name}", ids[a.id])
        for a in graph.activations
        for name in graph.inputs
        if name in _slots(graph.agent(a.agent))
    ]
    edges = [Link(ids[e.sender], ids[e.receiver], e.carry, _words(e)) for e in graph.edges]
    gives = [Link(ids[activation], f"output_{name}") for name, activation in graph.outputs]
    frames = tuple(tuple(ids[sender] for sender in senders) for senders in _fan_ins(graph))
    return Sketch(graph.name, (*inputs, *agents, *outputs), (*edges, *reads, *gives), frames)


def _title(graph: Graph, activation: Activation) -> str:
    rounds = sum(a.agent == activation.agent for a in graph.activations)
    return f"{activation.agent}, round {activation.round}" if rounds > 1 else activation.agent


def _facts(graph: Graph, agent: Agent) -> tuple[str, ...]:
    target = next(m.target for m in graph.models if m.name == agent.model)
    facts = [PurePath(target).name if PurePath(target).is_absolute() else target]
    if agent.steps:
        facts.append(f"{agent.steps} latent{'s' if agent.steps > 1 else ''}, {agent.align}")
    if agent.lora is None:
        facts.append("frozen")
    else:
        where = "" if agent.lora.targets == ("all",) else " on " + ", ".join(agent.lora.targets)
        facts.append(f"LoRA r={agent.lora.rank}{where}")
    if agent.answer is not None:
        facts.append(f"answers, up to {agent.answer.max_tokens} tokens")
    return tuple(facts)


def _slots(agent: Agent) -> set[str]:
    return {part.name for part in (*(agent.system or ()), *agent.user) if isinstance(part, Slot)}


def _words(edge: Edge) -> tuple[str, ...]:
    """Kind and carry, then whatever is not as by default."""
    words = [f"{edge.kind} {edge.carry}"]
    if edge.layers is not None:
        words.append(f"layers {edge.layers[0]}..{edge.layers[1]}")
    if edge.merge != "overlap":
        words.append(edge.merge)
    if edge.gradient == "stop":
        words.append("no gradient")
    if edge.open is not None:
        words.append(f"open {edge.open.steps} as {edge.open.carry}")
    return tuple(words)


def _fan_ins(graph: Graph) -> list[tuple[str, ...]]:
    """The sets of senders written together into one receiver. A node stands in one box at most: of sets that overlap
    the first is boxed, and the others are told by their edges alone."""
    together: dict[tuple[int, str], list[str]] = {}
    for edge in graph.edges:
        together.setdefault((edge.group, edge.receiver), []).append(edge.sender)
    boxed: list[tuple[str, ...]] = []
    for senders in together.values():
        if len(senders) > 1 and not any(set(senders) & set(box) for box in boxed):
            boxed.append(tuple(senders))
    return boxed
