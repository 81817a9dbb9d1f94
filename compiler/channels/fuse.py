"""`fuse`: the sender's cache, projected and gated into the receiver's where both prompts hold one value. Cache-to-Cache
(arXiv 2510.03215)."""

from __future__ import annotations

from collections.abc import Iterator

from masc.compiler.channels.common import GRADIENT, layers_option, missing_layers
from masc.compiler.channels.declare import Between, Channel, EdgeOption, Snippet, Style, slots
from masc.compiler.ir.graph import Edge
from masc.compiler.language.bounds import whole
from masc.compiler.language.declare import table
from masc.compiler.language.values import numeric
from masc.compiler.models.facts import ModelFacts
from masc.dsl.diagnostics import Diagnostic


def _check(between: Between) -> Iterator[Diagnostic]:
    sender, receiver, edge = between.sender, between.receiver, between.edge
    inputs = {name.text for name in between.resolved.inputs}
    if not slots(sender) & slots(receiver) & inputs:
        message = f"there is nothing to fuse: the prompts of `{sender.name}` and `{receiver.name}` share no input"
        some = min(inputs, default="question")
        hint = "caches are fused where both prompts hold the same value: let both read `{" + some + "}`"
        yield Diagnostic("E0325", message, edge.span, hint=hint)
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
    return max(0, count) * 2 * one


CHANNEL = Channel(
    kind="fuse",
    help="The sender's cache, projected and gated into the receiver's own. Any two models.",
    crosses="the sender's cache, projected and gated into the receiver's, where both prompts hold one value",
    also="fusion c2c cache_to_cache fuser",
    cached=True,
    links=_parameters,
    check=_check,
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
    ),
    styles={"": Style("fuse", "fused into the receiver's cache", "thick", 4.0, 2.5, ("#7a3fa0", "#c08be2"))},
    snippets=(Snippet("Fuse edge", "fuse", "fuse(width = ${3:256})", "The sender's cache, fused into the receiver's"),),
)
