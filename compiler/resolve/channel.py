"""Resolving channels: what stands after the colon of an edge."""

from __future__ import annotations

from typing import Any

from masc.compiler.ir.graph import Carry, Open
from masc.compiler.language import bounds
from masc.compiler.language.other_names import meant
from masc.compiler.language.values import BadValueError, Reader, Scope, layers, numeric, read_options, word
from masc.dsl import syntax

_GRADIENT = word("full", "stop")
CHANNELS: dict[str, dict[str, Reader]] = {
    "kv": {
        "carry": word("trace", "own", "latents"),
        "merge": word("overlap", "stack"),
        "layers": layers,
        "gradient": _GRADIENT,
        "open": numeric(bounds.OPEN),
    },
    "hidden": {"carry": word("latents", "own"), "link": word("linear", "mlp"), "gradient": _GRADIENT},
    "fuse": {"layers": layers, "width": numeric(bounds.WIDTH), "gradient": _GRADIENT},
    "text": {},
}
"""Every kind of edge with its options."""


def resolve_channel(scope: Scope, channel: syntax.Channel) -> dict[str, Any] | None:
    """The fields of an Edge that a channel decides; None where it cannot be understood (complained about): with one of
    its options it might be another edge, so that nothing shall be said about what it does."""
    kind = channel.kind.text
    if kind not in CHANNELS:
        hint = "write `kv(carry = latents)`" if kind in ("latent", "latents") else meant(kind, list(CHANNELS))
        hint = hint or f"the channels are {', '.join(f'`{name}`' for name in CHANNELS)}"
        scope.complain("E0405", f"there is no channel `{kind}`", channel.kind.span, hint)
        scope.lost.add("graph")
        return None
    before = len(scope.notes)
    options = read_options(scope, channel.options, CHANNELS[kind], f"`{kind}`", qualified="open")
    if kind == "hidden":
        options = {"carry": "latents"} | options
    if "link" in options:
        options["shape"] = options.pop("link")
    if steps := options.pop("open", 0):
        carry = _opened(scope, channel)
        options |= {"open": Open(steps, carry)} if carry else {}
    if len(scope.notes) > before:
        scope.lost.add("graph")
        return None
    return {"kind": kind} | options


def _opened(scope: Scope, channel: syntax.Channel) -> Carry | None:
    """What `open = 40 as trace` carries while it is open: `own` where nothing is said."""
    option = next(o for o in channel.options if o.name.text == "open")
    if option.qualifier is None:
        return "own"
    try:
        carry: Carry = CHANNELS["kv"]["carry"](scope, "as", option.qualifier)
    except BadValueError:
        return None
    return carry
