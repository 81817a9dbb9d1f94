"""`fuse`: the sender's cache, projected and gated into the receiver's where both prompts hold one value. Cache-to-Cache
(arXiv 2510.03215)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from masc.compiler.channels.common import GRADIENT, layers_option, missing_layers, unable
from masc.compiler.channels.declare import Between, Channel, EdgeOption, Snippet, Style, slots
from masc.compiler.channels.gate import GATE
from masc.compiler.ir.arrival import Arrival, Arrived, Through, counted
from masc.compiler.ir.graph import Edge, Graph
from masc.compiler.ir.lines import Line
from masc.compiler.ir.ranges import Layers, in_order, intersection, layers_text, layers_told
from masc.compiler.language.bounds import whole
from masc.compiler.language.declare import table
from masc.compiler.language.values import numeric
from masc.compiler.models.facts import ModelFacts
from masc.dsl.diagnostics import Diagnostic


@dataclass(frozen=True)
class Fuse(Arrival):
    """An earlier segment's keys and values, projected and gated, are added to those of the receiver's prompt (all but
    its last token) where both hold the value of one placeholder. Layers are aligned from the last.

    layers  of the receiver; None: all that have a counterpart
    width   of the projection's hidden layer
    gate    what is added is multiplied by a trained number
    """

    kind = "fuse"
    word = "fuses"
    keeps = "prompt"
    link = "fuser"
    aligns = True
    asks = ("fused",)

    layers: Layers = None
    width: int = 256
    stop: bool = False
    gate: bool = False

    @classmethod
    def parse(cls, line: Line) -> Self:
        segment, layers = line.segment(), line.layers()
        line.need("width", "=")
        return cls(segment, layers, line.integer(), line.has("stop"), line.has("gated"))

    @property
    def text(self) -> str:
        layers = f" {layers_text(self.layers)}" if self.layers is not None else ""
        return f"{self.segment}{layers} width={self.width}" + " stop" * self.stop + " gated" * self.gate

    @property
    def told(self) -> str:
        return f"{layers_told(self.layers)}, width {self.width}" + ", no gradient" * self.stop + ", gated" * self.gate

    @property
    def seen(self) -> str:
        return f"the cache of `{self.segment}`, fused into its own"

    @property
    def shape(self) -> str:
        layers = "all layers" if self.layers is None else f"layers {self.layers[0][0]}..{self.layers[-1][1]}"
        return f"{self.width} wide on {layers}" + " with a gate" * self.gate

    @property
    def gated(self) -> bool:
        return self.gate

    @property
    def passes(self) -> bool:
        return not self.stop

    def through(self, at: Arrived, own: int | None, theirs: int | None) -> Through:
        if own is None or theirs is None:  # which layers have a counterpart, nobody knows: all of them
            return Through(None, None if self.stop else Arrived(prompt=((0, counted(theirs) - 1),)))
        shift = own - theirs
        paired = intersection(self.layers, ((max(0, shift), own - 1),)) or ()
        reached = intersection(paired, at.altered(own))
        if not reached:
            return Through()
        behind = tuple((first - shift, last - shift) for first, last in reached)
        return Through(reached, None if self.stop else Arrived(prompt=behind), paired)

    def layers_named(self) -> Layers:
        return self.layers

    def promises(self) -> Iterator[tuple[bool, str]]:
        yield in_order(self.layers), "layers are sorted ranges"
        yield 1 <= self.width < 2**63, "a width is positive"


def _brings(edge: Edge, graph: Graph, cut: bool) -> Fuse | None:
    layers = None if edge.layers is None else (edge.layers,)
    return None if cut else Fuse(edge.sender, layers, edge.width, edge.gradient == "stop", edge.gated)


def _check(between: Between) -> Iterator[Diagnostic]:
    sender, receiver, edge = between.sender, between.receiver, between.edge
    inputs = {name.text for name in between.resolved.inputs}
    if not slots(sender) & slots(receiver) & inputs:
        message = f"there is nothing to fuse: the prompts of `{sender.name}` and `{receiver.name}` share no input"
        some = min(inputs, default="question")
        hint = "caches are fused where both prompts hold the same value: let both read `{" + some + "}`"
        yield Diagnostic("E0325", message, edge.span, hint=hint)
    yield from unable(between, *Fuse.asks)
    yield from missing_layers(between)
    if {sender.model, receiver.model} <= between.facts.keys():
        first = between.facts[receiver.model].layers - between.facts[sender.model].layers
        if edge.layers is not None and edge.layers[1] < first:
            low, high = edge.layers
            message = f"layers {low}..{high} of `{edge.receiver}` have no counterpart in `{edge.sender}`"
            hint = f"layers are aligned from the last: those from {first} on have one"
            yield Diagnostic("E0326", message, between.link.option("layers"), hint=hint)


def _parameters(edge: Edge, sender: ModelFacts, receiver: ModelFacts) -> int:
    """Of a fuser (`backends/torch/channels/links.py`): two projections and gates for each layer that is fused."""
    low, high = edge.layers or (0, receiver.layers - 1)
    count = min(high, receiver.layers - 1) + 1 - max(low, receiver.layers - sender.layers)
    own = receiver.kv_heads * receiver.head_dim
    both = sender.kv_heads * sender.head_dim + own
    one = 2 * both + (both + 1) * edge.width + (edge.width + 1) * own + (both + 1) * receiver.kv_heads + 1
    return max(0, count) * 2 * one + edge.gated


CHANNEL = Channel(
    kind="fuse",
    help="The sender's cache, projected and gated into the receiver's own. Any two models.",
    crosses="the sender's cache, projected and gated into the receiver's, where both prompts hold one value",
    also="fusion c2c cache_to_cache fuser",
    cached=True,
    links=_parameters,
    check=_check,
    arrival=Fuse,
    brings=_brings,
    options=table(
        layers_option("The receiver's layers that are fused, as far as they have a counterpart"),
        EdgeOption(
            "width",
            numeric(whole(1, 1 << 16)),
            "Of the projection's hidden layer",
            256,
            examples=("width = 256",),
            label=lambda width: f"width {width}",
        ),
        GRADIENT,
        GATE,
    ),
    styles={"": Style("fuse", "fused into the receiver's cache", "thick", 4.0, 2.5, ("#7a3fa0", "#c08be2"))},
    snippets=(Snippet("Fuse edge", "fuse", "fuse(width = ${3:256})", "The sender's cache, fused into the receiver's"),),
)
