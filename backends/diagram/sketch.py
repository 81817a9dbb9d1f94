"""What a drawing shows, whatever it is drawn with: nodes, links and frames with their words chosen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Literal

from masc.backends.diagram.rolled import Repeat, backward, homes, repeats, rolled
from masc.backends.diagram.styles import PORT
from masc.compiler.channels import CHANNELS
from masc.compiler.ir.adapter import adapter_text
from masc.compiler.ir.graph import Agent, Edge, Graph
from masc.compiler.ir.plan import Slot, agent_of

Weights = Mapping[tuple[str, str], float]
"""What the edges of a graph carry: (sender, receiver), agents by name -> a share from 0 to 1."""


@dataclass(frozen=True)
class Node:
    """`id` is a plain identifier that no drawing language reserves."""

    id: str
    kind: Literal["input", "agent", "output"]
    title: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Link:
    """`line`: the name of its style (`styles.py`); `lines`: the words on it; `back`: it goes against the order of a
    repeat, into the next round; `weight`: the share that it carries, where that is known."""

    source: str
    target: str
    line: str = PORT.name
    lines: tuple[str, ...] = ()
    back: bool = False
    weight: float | None = None


@dataclass(frozen=True)
class Frame:
    """A box around nodes and other frames: a repeat, or without a title the senders of a fan-in."""

    id: str
    title: str
    nodes: tuple[str, ...]
    frames: tuple[Frame, ...] = ()


@dataclass(frozen=True)
class Sketch:
    name: str
    nodes: tuple[Node, ...]
    links: tuple[Link, ...]
    frames: tuple[Frame, ...]


def sketch(graph: Graph, weights: Weights | None = None) -> Sketch:
    """Choose what is drawn of a graph, in its textual order. An edge that has no weight is drawn as without weights."""
    carried = weights or {}
    labels = dict(graph.labels)
    rounds: dict[str, int] = {}
    for activation in graph.activations:
        rounds[activation.agent] = rounds.get(activation.agent, 0) + 1
    inputs = [Node(f"input_{name}", "input", name) for name in graph.inputs]
    agents = [Node(_id(name), "agent", name, _facts(graph, graph.agent(name), times)) for name, times in rounds.items()]
    outputs = [
        Node(f"output_{name}", "output", name, (f"trained on {labels[name]}",) if name in labels else ())
        for name, _ in graph.outputs
    ]
    reads = [
        Link(f"input_{name}", _id(agent)) for agent in rounds for name in graph.inputs if name in _slots(graph, agent)
    ]
    edges = rolled(graph)
    back = backward(graph, edges)
    sends = [
        Link(_id(e.sender), _id(e.receiver), _line(e), _words(e), e in back, carried.get((e.sender, e.receiver)))
        for e in edges
    ]
    gives = [Link(_id(agent_of(activation)), f"output_{name}") for name, activation in graph.outputs]
    frames = (*_fan_ins(edges, set(homes(graph))), *_repeats(repeats(graph)))
    return Sketch(graph.name, (*inputs, *agents, *outputs), (*sends, *reads, *gives), frames)


def unrolled(graph: Graph, weights: Weights | None = None) -> Sketch:
    """The same with every round drawn: a node for each activation. Inputs are words in those that read them, for their
    lines would cross all others."""
    carried = weights or {}
    says = {e.sender for e in graph.edges if CHANNELS[e.kind].words} | {activation for _, activation in graph.outputs}
    agents = []
    for activation in graph.activations:
        agent = graph.agent(activation.agent)
        if activation.id not in says:
            agent = replace(agent, answer=None)
        slots = _slots(graph, agent.name)
        reads = [name for name in graph.inputs if name in slots]
        facts = (*_facts(graph, agent, times=1), *([f"reads {', '.join(reads)}"] if reads else []))
        agents.append(Node(_round_id(activation.id), "agent", activation.id, facts))
    outputs = [Node(f"output_{name}", "output", name) for name, _ in graph.outputs]
    sends = [
        Link(
            _round_id(e.sender),
            _round_id(e.receiver),
            _line(e),
            _words(e),
            weight=carried.get((agent_of(e.sender), agent_of(e.receiver))),
        )
        for e in graph.edges
    ]
    gives = [Link(_round_id(activation), f"output_{name}") for name, activation in graph.outputs]
    return Sketch(graph.name, (*agents, *outputs), (*sends, *gives), frames=())


def _id(agent: str) -> str:
    return f"agent_{agent}"


def _round_id(activation: str) -> str:
    """No two are equal: a round always comes last."""
    return f"agent_{activation.replace('#', '_')}"


def _facts(graph: Graph, agent: Agent, times: int) -> tuple[str, ...]:
    target = next(m.target for m in graph.models if m.name == agent.model)
    facts = [PurePath(target).name if PurePath(target).is_absolute() else target]
    if agent.steps:
        facts.append(f"{agent.steps} latent{'s' if agent.steps > 1 else ''}, {agent.align}")
    facts.append(adapter_text(agent.lora, agent.shares, "drawing"))
    if agent.answer is not None:
        facts.append(f"answers, up to {agent.answer.max_tokens} tokens")
    facts += [f"trained on {column}" for name, column in graph.labels if name == agent.name]
    if times > 1:
        facts.append(f"active {times} times")
    return tuple(facts)


def _slots(graph: Graph, name: str) -> set[str]:
    agent = graph.agent(name)
    return {part.name for part in (*(agent.system or ()), *agent.user) if isinstance(part, Slot)}


def _line(edge: Edge) -> str:
    return CHANNELS[edge.kind].style(edge).name


def _words(edge: Edge) -> tuple[str, ...]:
    """Kind and carry, then whatever is not as by default."""
    channel = CHANNELS[edge.kind]
    words = [f"{edge.kind} {edge.carry}" if channel.carries else edge.kind]
    for option in channel.options.values():
        value = option.of(edge)
        if option.label is not None and (option.always or value != option.default):
            words.append(option.label(value))
    return tuple(words)


def _fan_ins(edges: tuple[Edge, ...], looping: set[str]) -> list[Frame]:
    """The sets of senders written together into one receiver. A node stands in one box at most: of sets that overlap
    the first is boxed, and the others are told by their edges alone, as are those with senders in a repeat."""
    together: dict[tuple[int, str], list[str]] = {}
    for edge in edges:
        together.setdefault((edge.group, edge.receiver), []).append(edge.sender)
    boxed: list[tuple[str, ...]] = []
    taken = set(looping)
    for senders in together.values():
        if len(senders) > 1 and not taken & set(senders):
            boxed.append(tuple(map(_id, senders)))
            taken |= set(senders)
    return [Frame(f"together_{number}", "", nodes) for number, nodes in enumerate(boxed, 1)]


def _repeats(found: tuple[Repeat, ...], above: str = "repeat") -> tuple[Frame, ...]:
    return tuple(
        Frame(name, repeat.title, tuple(map(_id, repeat.agents)), _repeats(repeat.inner, name))
        for name, repeat in ((f"{above}_{number}", repeat) for number, repeat in enumerate(found, 1))
    )
