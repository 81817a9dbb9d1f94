"""Options and checks that several channels have."""

from __future__ import annotations

from collections.abc import Iterator

from masc.compiler.channels.declare import Between, EdgeOption, written
from masc.compiler.language.values import layers, word
from masc.compiler.models.facts import lacking
from masc.compiler.models.locate import layers_diagnostic
from masc.dsl.diagnostics import Diagnostic, Label

GRADIENT = EdgeOption(
    "gradient",
    word("full", "stop"),
    "Whether the loss reaches the sender through this edge",
    "full",
    label=lambda gradient: "no gradient",
)


def layers_option(about: str) -> EdgeOption:
    return EdgeOption(
        "layers",
        layers,
        f"{about} (default `all`)",
        examples=("layers = 0..9",),
        panel=lambda value: written(value) or "all",
        label=lambda value: f"layers {written(value)}",
    )


def nothing_to_carry(between: Between) -> Iterator[Diagnostic]:
    """Latents of a sender that does not think."""
    sender = between.sender
    if between.edge.carry == "latents" and sender.steps == 0:
        closed = " once the channel is closed" if between.edge.open is not None else ""
        message = f"`{sender.name}` has no latent steps, so `carry = latents` passes nothing{closed}"
        hint = f"give `{sender.name}` a line such as `think 10`"
        label = Label(sender.span, f"`{sender.name}` is declared here")
        yield Diagnostic("W0301", message, between.link.option("carry"), (label,), hint)


def unable(between: Between, *abilities: str) -> Iterator[Diagnostic]:
    """The first of some abilities that a model at either end does not have."""
    for agent in {between.sender.model: between.sender, between.receiver.model: between.receiver}.values():
        model, target = between.facts.get(agent.model), between.target(agent)
        if model is not None and target is not None:
            found = (lacking(model, ability, target, between.edge.span) for ability in abilities)
            yield from [one for one in found if one is not None][:1]


def missing_layers(between: Between) -> Iterator[Diagnostic]:
    """Layers that the receiver's model does not have."""
    model, edge = between.facts.get(between.receiver.model), between.edge
    if model is not None and edge.layers is not None:
        found = layers_diagnostic(edge.layers[1], model, between.link.option("layers"))
        yield from [found] if found else []
