"""`kv`: the receiver looks at keys and values that others wrote, at their positions. DiffMAS's channel."""

from __future__ import annotations

from collections.abc import Iterator

from masc.compiler.channels.common import GRADIENT, layers_option, missing_layers, nothing_to_carry, unable
from masc.compiler.channels.declare import Between, Channel, EdgeOption, Qualifier, Snippet, Style
from masc.compiler.channels.gate import GATE
from masc.compiler.ir.graph import Edge, Open
from masc.compiler.language.bounds import whole
from masc.compiler.language.declare import table
from masc.compiler.language.objectives import SUPERVISED
from masc.compiler.language.values import numeric, word
from masc.compiler.models.facts import ModelFacts
from masc.compiler.models.locate import window_note
from masc.dsl.diagnostics import Diagnostic, Label

_CARRY = word("trace", "own", "latents")
_WIDTH = {"latents": 0, "own": 1, "trace": 2}


def _check(between: Between) -> Iterator[Diagnostic]:
    edge, link = between.edge, between.link
    yield from nothing_to_carry(between)
    if edge.open is not None and _WIDTH[edge.open.carry] <= _WIDTH[edge.carry]:
        message = f"`open` adds nothing: the edge carries `{edge.carry}` at all times"
        hint = "`open` widens a narrow channel in the first steps: `kv(carry = latents, open = 40)`"
        labels = (Label(link.option("carry"), "here"),) if link.says("carry") else ()
        yield Diagnostic("W0302", message, link.option("open"), labels, hint)
    elif (
        edge.open is not None
        and (train := between.resolved.train).objective == SUPERVISED  # a reward finds it closed: W0315
        and edge.open.steps >= (steps := train.steps)
    ):
        message = f"this channel never closes: it is open for {edge.open.steps} steps, and training has {steps}"
        hint = "the graph runs with the channel closed, so train that too: open it for a third of `steps`"
        yield Diagnostic("W0304", message, link.option("open"), hint=hint)
    yield from unable(between, "keys", *(["moved"] if edge.merge == "stack" else []))
    yield from missing_layers(between)
    model, target = between.facts.get(between.receiver.model), between.target(between.receiver)
    if model is not None and target is not None:
        note = window_note(model, target, edge.span, [edge.layers] if edge.layers else None)
        yield from [note] if note else []


def _parameters(edge: Edge, sender: ModelFacts, receiver: ModelFacts) -> int:
    """An edge between agents on one model has no link, but it may have a gate."""
    return int(edge.gated)


CHANNEL = Channel(
    kind="kv",
    help="Keys and values of the sender's cache, seen by the receiver. Both run on one base model.",
    crosses="keys and values, to look at",
    also="cache kvcache kv_cache keys key_values past_key_values attention",
    same_model="keys and values",
    views=True,
    cached=True,
    links=_parameters,
    check=_check,
    options=table(
        EdgeOption(
            "carry",
            _CARRY,
            "Which segments pass: all that the sender saw and its own, its own, or only its latent positions",
            "trace",
        ),
        EdgeOption(
            "merge",
            word("overlap", "stack"),
            "Where parallel senders lie: at the positions where they were written, or end to end",
            "overlap",
            shared=True,
            label=str,
        ),
        layers_option("The layers that see it, both ends included"),
        GRADIENT,
        EdgeOption(
            "open",
            numeric(whole(0, 10**9)),
            "For so many first steps of training more passes, ever more seldom: `open = 40`, `open = 40 as trace`",
            examples=("open = 40", "open = 40 as trace"),
            qualifier=Qualifier(_CARRY, "own", lambda steps, carry: Open(steps, carry) if steps else None),
            text=lambda value: f"{value.steps} as {value.carry}" if value else "",
            panel=lambda value: f"the first {value.steps} steps of training, as {value.carry}" if value else "",
            label=lambda value: f"open {value.steps} as {value.carry}",
        ),
        GATE,
    ),
    # The more an edge carries, the heavier its line.
    styles={
        "trace": Style("trace", "kv, carry = trace", "thick", 3.0, 2.5),
        "own": Style("own", "kv, carry = own", "solid", 1.5, 1.2),
        "latents": Style("latents", "kv, carry = latents", "dotted", 2.0, 1.5),
    },
    snippets=(
        Snippet(
            "Narrow edge",
            "narrow",
            "kv(carry = latents, open = ${3:40})",
            "Only what the sender thought, with an opening",
        ),
        Snippet(
            "Gated edge",
            "gated",
            "kv(carry = own, gate = learned)",
            "An edge that training may close: `train { sparsity 0.01 }`",
        ),
    ),
)
