"""What resolving makes of a syntax tree: every name looked up, every value read, nothing unrolled yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from masc.compiler.graph import Agent, Edge, Model
from masc.compiler.plan import TrainSettings
from masc.dsl import syntax
from masc.dsl.source import Span


@dataclass(frozen=True)
class Link:
    """A kv edge between two agents (`edge.sender` and `edge.receiver` are agents' names here) and how it was
    written."""

    edge: Edge
    channel: syntax.Channel

    def option(self, name: str) -> Span:
        """Where an option of the edge stands; the edge itself where it was left out."""
        return next((o.span for o in self.channel.options if o.name.text == name), self.edge.span)


@dataclass(frozen=True)
class Give:
    """An agent's answer is an output of the graph."""

    agent: str
    output: str
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True)
class Resolved:
    """`agents`: all that are declared; `mentions`: those in the graph, in order of first mention; `written`: their
    syntax; `lost`: kinds of things ("graph", "agent", "model", "param", "use" of a parameter) that were not understood
    in full, so that complaints about what is missing or unused would be idle."""

    name: str
    inputs: tuple[syntax.Name, ...]
    outputs: tuple[syntax.Name, ...]
    models: tuple[Model, ...]
    agents: tuple[Agent, ...]
    mentions: tuple[str, ...]
    links: tuple[Link, ...]
    gives: tuple[Give, ...]
    labels: tuple[tuple[str, str], ...]
    train: TrainSettings
    written: Mapping[str, syntax.Agent]
    unused: tuple[syntax.Param, ...]
    lost: frozenset[str]
    span: Span = field(compare=False, repr=False)

    def agent(self, name: str) -> Agent:
        return next(a for a in self.agents if a.name == name)
