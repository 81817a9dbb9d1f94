"""What the declaration of a channel is: data, and a few functions of one edge. Nothing else compares kinds of edges."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from masc.compiler.ir.arrival import Arrival
from masc.compiler.ir.graph import Agent, Edge, Graph
from masc.compiler.ir.plan import Slot
from masc.compiler.ir.resolved import Link, Resolved
from masc.compiler.language.declare import Option
from masc.compiler.language.values import Reader
from masc.compiler.models.facts import ModelFacts
from masc.dsl.diagnostics import Diagnostic

Stroke = Literal["solid", "thick", "dotted", "dashed"]


@dataclass(frozen=True)
class Qualifier:
    """What may stand behind an option's value (`open = 40 as trace`). make: both as one; `default`: if it is left
    out."""

    reads: Reader
    default: Any
    make: Callable[[Any, Any], Any]


def written(value: Any) -> str:
    """The value of an option in one word; empty: there is nothing to write."""
    if isinstance(value, tuple):
        return f"{value[0]}..{value[1]}"
    return "" if value is None else str(value)


@dataclass(frozen=True)
class EdgeOption(Option):
    """An option of a channel.

    field      of the `Edge` that holds it (empty: it has the option's name)
    examples   how the reference shows it, where it takes more than its words
    qualifier  what may stand behind its value
    shared     all edges of the kind into one agent have the same value; who says nothing has the others'
    text       the value in the text of a graph; empty: it is left out
    panel      the value in the panel beside a drawing; empty: there is no row
    label      what stands on the line in a drawing; `always`: for the default, too
    """

    field: str = ""
    examples: tuple[str, ...] = ()
    qualifier: Qualifier | None = None
    shared: bool = False
    text: Callable[[Any], str] = written
    panel: Callable[[Any], str] = written
    label: Callable[[Any], str] | None = None
    always: bool = False

    def of(self, edge: Edge) -> Any:
        """Its value in an edge."""
        return getattr(edge, self.field or self.name)


@dataclass(frozen=True)
class Style:
    """How a line is drawn.

    name    what drawings call it: the class of the line in SVG
    legend  what it means, in a few words
    colour  on light and on dark ground; None: that of all lines
    width   in pixels, in SVG and Mermaid; `pen`: of Graphviz
    """

    name: str
    legend: str
    stroke: Stroke
    width: float
    pen: float
    colour: tuple[str, str] | None = None


@dataclass(frozen=True)
class Between:
    """An edge as it was written, with the agents at its ends and what is known of the program."""

    link: Link
    sender: Agent
    receiver: Agent
    resolved: Resolved
    facts: Mapping[str, ModelFacts]
    """By model's name, as far as they are known."""

    @property
    def edge(self) -> Edge:
        return self.link.edge

    def target(self, agent: Agent) -> str | None:
        """What the agent's model is called in its line; None: it is not declared."""
        return next((model.target for model in self.resolved.models if model.name == agent.model), None)


@dataclass(frozen=True)
class Snippet:
    """A piece of text that an editor offers. body: of the channel, with `${3:...}` for what is to be filled in."""

    name: str
    prefix: str
    body: str
    about: str


@dataclass(frozen=True)
class Channel:
    """One kind of edge.

    help        a sentence of what it carries
    crosses     the same for the reference, in Markdown; `also`: what it is called elsewhere
    same_model  both agents run on one model, because of what differs between two; empty: any two models do
    views       the receiver looks at the sender's keys and values, at their positions
    cached      what arrives are keys and values, layer by layer
    in_prompt   what arrives stands in the receiver's prompt, at `{sender}`
    words       the sender says it in words: no gradient crosses
    links       the parameters of the trained link of an edge between two models; None: it has none
    check       what is wrong with one edge, or worth telling
    rows        what the panel beside a drawing says of every edge of the kind
    styles      how edges of the kind are drawn, by what they `carry`; "": whatever that is
    arrival     what it brings into a prompt, in a plan; None: nothing
    brings      what an edge brings, in a graph; None: nothing. The last argument: nothing comes across (`--cut`)
    """

    kind: str
    help: str
    crosses: str
    also: str
    options: Mapping[str, EdgeOption]
    styles: Mapping[str, Style]
    check: Callable[[Between], Iterator[Diagnostic]]
    same_model: str = ""
    views: bool = False
    cached: bool = False
    in_prompt: bool = False
    words: bool = False
    links: Callable[[Edge, ModelFacts, ModelFacts], int] | None = None
    rows: tuple[tuple[str, str], ...] = ()
    snippets: tuple[Snippet, ...] = ()
    arrival: type[Arrival] | None = None
    brings: Callable[[Edge, Graph, bool], Arrival | None] | None = None

    @property
    def carries(self) -> bool:
        """Whether an edge of the kind says what it carries."""
        return "carry" in self.options

    def style(self, edge: Edge) -> Style:
        return self.styles[edge.carry] if edge.carry in self.styles else self.styles[""]


def slots(agent: Agent) -> set[str]:
    """The placeholders in an agent's prompt."""
    return {part.name for part in (*(agent.system or ()), *agent.user) if isinstance(part, Slot)}
