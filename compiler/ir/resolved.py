"""What resolving makes of a syntax tree: every name looked up, every value read, nothing unrolled yet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from masc.compiler.ir.graph import Agent, Edge, Model
from masc.compiler.ir.plan import TrainSettings
from masc.dsl import syntax
from masc.dsl.source import Span


@dataclass(frozen=True)
class Link:
    """An edge between two agents (`edge.sender` and `edge.receiver` are agents' names here) and how it was written."""

    edge: Edge
    channel: syntax.Channel

    def says(self, name: str) -> bool:
        """Whether an option is written."""
        return any(option.name.text == name for option in self.channel.options)

    def option(self, name: str) -> Span:
        """Where an option of the edge stands; the edge itself where it was left out."""
        return next((o.span for o in self.channel.options if o.name.text == name), self.edge.span)


@dataclass(frozen=True)
class Rounds:
    """`repeat count { body }`."""

    count: int
    body: tuple[Link | Rounds, ...]
    span: Span = field(compare=False, repr=False)

    @cached_property
    def runs(self) -> int:
        """How many edges it unrolls to."""
        return self.count * sum(item.runs if isinstance(item, Rounds) else 1 for item in self.body)

    def once(self) -> Rounds:
        """The same with one round, inner ones too."""
        body = tuple(item.once() if isinstance(item, Rounds) else item for item in self.body)
        return Rounds(1, body, self.span)

    @cached_property
    def agents(self) -> tuple[str, ...]:
        """The agents of its edges, those of inner repeats too, in order of first mention."""
        names = (name for link in links_of(self.body) for name in (link.edge.sender, link.edge.receiver))
        return tuple(dict.fromkeys(names))


def links_of(body: tuple[Link | Rounds, ...]) -> Iterator[Link]:
    """The edges of a body, inner repeats included, in textual order."""
    for item in body:
        if isinstance(item, Rounds):
            yield from links_of(item.body)
        else:
            yield item


@dataclass(frozen=True)
class Give:
    """An agent's answer is an output of the graph."""

    agent: str
    output: str
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True)
class Resolved:
    """`agents`: all that are declared or made of a template, and those imported ones that are in the graph; `mentions`:
    those in the graph, in order of first mention; `written`: their syntax, an instance's being its template's; `lost`:
    kinds of things ("graph", "agent", "model", "param", "use" of a parameter) that were not understood in full, so that
    complaints about what is missing or unused would be idle."""

    name: str
    inputs: tuple[syntax.Name, ...]
    outputs: tuple[syntax.Name, ...]
    models: tuple[Model, ...]
    agents: tuple[Agent, ...]
    mentions: tuple[str, ...]
    body: tuple[Link | Rounds, ...]
    gives: tuple[Give, ...]
    labels: tuple[tuple[str, str], ...]
    columns: tuple[tuple[str, str], ...]
    train: TrainSettings
    written: Mapping[str, syntax.Agent]
    lost: frozenset[str]
    span: Span = field(compare=False, repr=False)

    @cached_property
    def links(self) -> tuple[Link, ...]:
        """Every edge, in textual order."""
        return tuple(links_of(self.body))

    def agent(self, name: str) -> Agent:
        return self._by_name[name]

    @cached_property
    def _by_name(self) -> dict[str, Agent]:
        return {agent.name: agent for agent in self.agents}
