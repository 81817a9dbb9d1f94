"""`hidden`: final hidden states, brought into the receiver's embedding space by a trained link."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Self, cast

from masc.compiler.channels.common import GRADIENT, nothing_to_carry
from masc.compiler.channels.declare import Between, Channel, EdgeOption, Snippet, Style
from masc.compiler.channels.gate import GATE
from masc.compiler.ir.arrival import Arrival, Arrived, Through
from masc.compiler.ir.graph import Edge, Graph
from masc.compiler.ir.lines import Line
from masc.compiler.ir.plan import agent_of
from masc.compiler.ir.ranges import top
from masc.compiler.language.declare import table
from masc.compiler.language.values import word
from masc.compiler.models.facts import ModelFacts, ungated
from masc.dsl.diagnostics import Diagnostic


@dataclass(frozen=True)
class Splice(Arrival):
    """A receiver's prompt holds, at `{sender}` or before the user's text, final hidden states of an earlier segment,
    each brought into the receiver's embedding space by the link of these two agents.

    part    "latents": those of the latent positions; "all": of the prompt's before them, too
    made    of which shape the link is
    stop    no gradient goes back through it; the link is trained all the same
    cut     vectors of zeros instead, so that positions stay
    gate    attention to the vectors is multiplied by a trained number
    """

    kind = "hidden"
    word = "splices"
    keeps = "hidden"
    link = "link"

    part: Literal["all", "latents"] = "latents"
    made: Literal["linear", "mlp"] = "linear"
    stop: bool = False
    cut: bool = False
    gate: bool = False

    @classmethod
    def parse(cls, line: Line) -> Self:
        segment, part = line.segment(), line.part()
        line.need("shape", "=")
        made = cast(Literal["linear", "mlp"], line.word("linear", "mlp"))
        return cls(segment, part, made, line.has("stop"), line.has("cut"), line.has("gated"))

    @property
    def text(self) -> str:
        part = ".latents" if self.part == "latents" else ""
        return (
            f"{self.segment}{part} shape={self.made}" + " stop" * self.stop + " cut" * self.cut + " gated" * self.gate
        )

    @property
    def told(self) -> str:
        part = "latents" if self.part == "latents" else "prompt and latents"
        return f"hidden states of its {part}, {self.made} link" + ", no gradient" * self.stop + ", gated" * self.gate

    @property
    def seen(self) -> str:
        return f"hidden states of `{self.segment}`"

    @property
    def latents(self) -> bool:
        return self.part == "latents"

    @property
    def shape(self) -> str:
        return self.made + " with a gate" * self.gate

    @property
    def gated(self) -> bool:
        return self.gate

    @property
    def passes(self) -> bool:
        return not (self.stop or self.cut)

    def through(self, at: Arrived, own: int | None, theirs: int | None) -> Through:
        # A gradient that comes by the prompt alone comes by tokens that two prompts share: what is spliced is none of
        # them, and their keys of the first layer are made of themselves alone.
        if self.cut or not (at.full or at.rest or top(at.prompt) > 0):
            return Through()
        return Through(None, None if self.stop else Arrived(full=True))


def _brings(edge: Edge, graph: Graph, cut: bool) -> Splice | None:
    if edge.carry == "latents" and not graph.agent(agent_of(edge.sender)).steps:
        return None
    part: Literal["all", "latents"] = "latents" if edge.carry == "latents" else "all"
    return Splice(edge.sender, part, edge.shape, edge.gradient == "stop", cut, edge.gated)


def _check(between: Between) -> Iterator[Diagnostic]:
    yield from nothing_to_carry(between)
    model, target = between.facts.get(between.receiver.model), between.target(between.receiver)
    if between.edge.gated and model is not None and target is not None:
        found = ungated(model, target, between.link.option("gate"))
        yield from [found] if found else []


def _parameters(edge: Edge, sender: ModelFacts, receiver: ModelFacts) -> int:
    """Of a matrix, or of two layers beside a skip (`backends/torch/channels/links.py`)."""
    d, e = sender.hidden, receiver.hidden
    return edge.gated + (d * e if edge.shape == "linear" else 2 * d * e + e * e + 2 * d + 4 * e)


CHANNEL = Channel(
    kind="hidden",
    help="Final hidden states, through a trainable link into the receiver's prompt. Any two models.",
    crosses="final hidden states through a trained link, placed in the receiver's prompt",
    also="hidden_state hidden_states embedding embeddings activations states",
    in_prompt=True,
    links=_parameters,
    check=_check,
    arrival=Splice,
    brings=_brings,
    options=table(
        EdgeOption(
            "carry",
            word("latents", "own"),
            "Which hidden states: of the latent positions, or of the prompt's before them too",
            "latents",
        ),
        EdgeOption(
            "link",
            word("linear", "mlp"),
            "The trainable link: a matrix, or two layers beside a skip",
            "linear",
            field="shape",
            label=lambda shape: f"{shape} link",
            always=True,
        ),
        GRADIENT,
        GATE,
    ),
    styles={"": Style("hidden", "hidden states through a link", "dashed", 2.5, 1.5, ("#1b7f5c", "#46c096"))},
    snippets=(
        Snippet("Hidden edge", "hidden", "hidden(link = ${3|linear,mlp|})", "Hidden states through a trained link"),
    ),
)
