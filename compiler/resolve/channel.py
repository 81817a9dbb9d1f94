"""Resolving channels: what stands after the colon of an edge."""

from __future__ import annotations

from typing import Any

from masc.compiler.channels import CHANNELS
from masc.compiler.channels.declare import Channel, EdgeOption
from masc.compiler.language.options import read_options
from masc.compiler.language.other_names import meant
from masc.compiler.language.values import BadValueError, Scope
from masc.dsl import syntax


def resolve_channel(scope: Scope, written: syntax.Channel) -> dict[str, Any] | None:
    """The fields of an Edge that a channel decides; None where it cannot be understood (complained about): with one of
    its options it might be another edge, so that nothing shall be said about what it does."""
    kind = written.kind.text
    if kind not in CHANNELS:
        called = {name: channel.also for name, channel in CHANNELS.items()}
        hint = "write `kv(carry = latents)`" if kind in ("latent", "latents") else meant(kind, list(CHANNELS), called)
        hint = hint or f"the channels are {', '.join(f'`{name}`' for name in CHANNELS)}"
        scope.complain("E0405", f"there is no channel `{kind}`", written.kind.span, hint)
        scope.lost.add("graph")
        return None
    before = len(scope.notes)
    fields = _fields(scope, CHANNELS[kind], written)
    if len(scope.notes) > before:
        scope.lost.add("graph")
        return None
    return {"kind": kind} | fields


def _fields(scope: Scope, channel: Channel, written: syntax.Channel) -> dict[str, Any]:
    options = channel.options
    qualified = [name for name, option in options.items() if option.qualifier]
    found = read_options(scope, written.options, options, f"`{channel.kind}`", qualified)
    for name in qualified:
        if name in found:
            found[name] = _qualified(scope, options[name], found[name], written)
    return {option.field or name: found.get(name, option.default) for name, option in options.items()}


def _qualified(scope: Scope, option: EdgeOption, value: Any, written: syntax.Channel) -> Any:
    """A value and what stands behind it, as one."""
    assert option.qualifier is not None
    said = next(o.qualifier for o in written.options if o.name.text == option.name)
    try:
        behind = option.qualifier.default if said is None or not value else option.qualifier.reads(scope, "as", said)
    except BadValueError:
        return None
    return option.qualifier.make(value, behind)
