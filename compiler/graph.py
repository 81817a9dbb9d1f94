"""The graph level: typed nodes and edges, every name resolved, every repeat unrolled.

Passes from the syntax tree fill it, `schedule` and `place` read it. Spans stay so that later passes can point at the
source.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from masc.compiler.plan import Lora, Sampling, Template, TrainSettings
from masc.dsl.source import Span

if TYPE_CHECKING:
    import networkx as nx

Carry = Literal["trace", "own", "latents"]
Merge = Literal["overlap", "stack"]
Gradient = Literal["full", "stop"]
Align = Literal["norm", "ridge", "linear"]


@dataclass(frozen=True)
class Model:
    """A base model. `target` as written (a local folder: resolved against the file's folder)."""

    name: str
    target: str
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True)
class Agent:
    """An agent, parameters put in. `lora` None: the agent is frozen. `answer` None: it never decodes."""

    name: str
    model: str
    system: Template | None
    user: Template
    steps: int
    align: Align
    lora: Lora | None
    answer: Sampling | None
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True)
class Open:
    """`open = steps as carry`: for the first `steps` optimiser steps the edge carries `carry` as well."""

    steps: int
    carry: Carry


@dataclass(frozen=True)
class Edge:
    """A kv edge between two activations. `layers` None: all; else the first and last layer that see it."""

    sender: str
    receiver: str
    kind: Literal["kv"]
    carry: Carry
    merge: Merge
    gradient: Gradient
    layers: tuple[int, int] | None
    open: Open | None
    group: int
    """Edges written in one fan-in (`[a, b] -> c`) share a group number; diagrams draw them together."""
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True)
class Activation:
    """One activation of an agent: agent x round (from 1)."""

    agent: str
    round: int

    @property
    def id(self) -> str:
        return f"{self.agent}#{self.round}"


@dataclass(frozen=True)
class Graph:
    """`activations` in textual order of first mention; `edges` in textual order; `outputs`: output name -> activation
    id; `labels`: output name -> data column that supervises it."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[tuple[str, str], ...]
    models: tuple[Model, ...]
    agents: tuple[Agent, ...]
    activations: tuple[Activation, ...]
    edges: tuple[Edge, ...]
    labels: tuple[tuple[str, str], ...]
    train: TrainSettings
    span: Span = field(compare=False, repr=False)

    def agent(self, name: str) -> Agent:
        return next(a for a in self.agents if a.name == name)

    def incoming(self, activation: str) -> tuple[Edge, ...]:
        return tuple(e for e in self.edges if e.receiver == activation)

    def network(self) -> nx.MultiDiGraph[str]:
        """The networkx view: nodes are activation ids (attribute `agent`), edges carry their Edge as `edge`."""
        import networkx as nx  # a tenth of a second that `check` need not pay

        network: nx.MultiDiGraph[str] = nx.MultiDiGraph()
        for activation in self.activations:
            network.add_node(activation.id, agent=activation.agent)
        for edge in self.edges:
            network.add_edge(edge.sender, edge.receiver, edge=edge)
        return network
