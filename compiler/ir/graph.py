"""The graph level: typed nodes and edges, every name resolved, every repeat unrolled.

Passes from the syntax tree fill it, `schedule` and `place` read it. Spans stay so that later passes can point at the
source.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import networkx as nx

from masc.compiler.ir.adapter import Lora
from masc.compiler.ir.model import PLAIN, Loading
from masc.compiler.ir.plan import Sampling, Template, TrainSettings
from masc.compiler.language.models import Variable
from masc.dsl.source import Span

Carry = Literal["trace", "own", "latents"]
Merge = Literal["overlap", "stack"]
Gradient = Literal["full", "stop"]
Shape = Literal["linear", "mlp"]
Gated = Literal["none", "learned"] | float
"""How far an edge is open: whole, as is learnt, or (in drawings of what was trained) a number from 0 to 1."""


@dataclass(frozen=True)
class Model:
    """A base model. `target` as written (a local folder: resolved against the file's folder). variables: of its chat
    template, for all agents on it."""

    name: str
    target: str
    span: Span = field(compare=False, repr=False)
    loading: Loading = PLAIN
    variables: tuple[Variable, ...] = ()

    @property
    def base(self) -> tuple[str, Loading]:
        """What is in memory once, whatever it is called."""
        return self.target, self.loading


@dataclass(frozen=True)
class Agent:
    """An agent, parameters put in. gradient: whether one passes from a latent step to the one before. `lora` None: the
    agent is frozen. `answer` None: it never decodes. `shares`: the agent whose adapter it has; None: one of its own, if
    any. variables: of the chat template, its model's and its own, in the order of their names."""

    name: str
    model: str
    system: Template | None
    user: Template
    steps: int
    align: str
    gradient: Gradient
    lora: Lora | None
    answer: Sampling | None
    span: Span = field(compare=False, repr=False)
    shares: str | None = None
    variables: tuple[Variable, ...] = ()


@dataclass(frozen=True)
class Open:
    """`open = steps as carry`: for the first `steps` optimiser steps the edge carries `carry` as well."""

    steps: int
    carry: Carry


@dataclass(frozen=True)
class Edge:
    """An edge between two activations, and what it carries.

    kind    of `CHANNELS` (`compiler/channels`), whose declaration says which of the fields below mean something
    layers  the first and the last layer of the receiver; None: all
    """

    sender: str
    receiver: str
    kind: str
    group: int
    """Edges written in one fan-in (`[a, b] -> c`) share a group number; diagrams draw them together."""
    span: Span = field(compare=False, repr=False)
    carry: Carry = "trace"
    merge: Merge = "overlap"
    gradient: Gradient = "full"
    layers: tuple[int, int] | None = None
    open: Open | None = None
    shape: Shape = "linear"
    width: int = 256
    gate: Gated = "none"

    @property
    def gated(self) -> bool:
        return self.gate != "none"


@dataclass(frozen=True)
class Activation:
    """One activation of an agent: agent x round (from 1)."""

    agent: str
    round: int

    @property
    def id(self) -> str:
        return f"{self.agent}#{self.round}"


@dataclass(frozen=True)
class Loop:
    """A `repeat`, as it was written: how often, which agents, and the repeat that it stands in (its place among the
    graph's loops; None: in none)."""

    count: int
    agents: tuple[str, ...]
    parent: int | None


@dataclass(frozen=True)
class Graph:
    """`activations` in textual order of first mention, rounds counted from 1; `edges` in textual order; `outputs`:
    output name -> activation id; `labels`: output name, or agent whose text is supervised, -> data column;
    `columns`: input -> data column, of those that are read under another name; `loops`:
    every repeat, outer ones first (what is left of them, for drawings: the graph itself is unrolled)."""

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
    loops: tuple[Loop, ...] = ()
    columns: tuple[tuple[str, str], ...] = ()

    def agent(self, name: str) -> Agent:
        return self._by_name[name]

    def incoming(self, activation: str, *kinds: str) -> tuple[Edge, ...]:
        """The edges into an activation, of some kinds or all."""
        edges = self._incoming.get(activation, ())
        return tuple(e for e in edges if e.kind in kinds) if kinds else edges

    @cached_property
    def _by_name(self) -> dict[str, Agent]:
        return {agent.name: agent for agent in self.agents}

    @cached_property
    def _incoming(self) -> dict[str, tuple[Edge, ...]]:
        found: dict[str, list[Edge]] = {}
        for edge in self.edges:
            found.setdefault(edge.receiver, []).append(edge)
        return {activation: tuple(edges) for activation, edges in found.items()}

    @cached_property
    def network(self) -> nx.MultiDiGraph[str]:
        """The graph for networkx, frozen: nodes are activation ids (attribute `agent`), edges carry their Edge as
        `edge`."""
        network: nx.MultiDiGraph[str] = nx.MultiDiGraph()
        for activation in self.activations:
            network.add_node(activation.id, agent=activation.agent)
        for edge in self.edges:
            network.add_edge(edge.sender, edge.receiver, edge=edge)
        nx.freeze(network)
        return network
