"""Activations that are computed in one batch in training: those of one wave that are alike (`waves.siblings`), the rows
of each behind those of the one before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import pad

from masc.backends.torch.engine.labels import label_of
from masc.backends.torch.engine.recorded import Recordings
from masc.backends.torch.engine.rollout import activate
from masc.backends.torch.engine.script import Activated, Block, Script
from masc.backends.torch.model.applying import Aliases
from masc.backends.torch.model.attention import Columns, Noting
from masc.backends.torch.model.base import Base
from masc.backends.torch.model.loading import is_spread
from masc.backends.torch.model.lora import is_plain
from masc.backends.torch.model.segments import KeysValues, Past, Segment
from masc.compiler.analysis.waves import fits
from masc.compiler.ir.plan import Turn


@dataclass(frozen=True)
class Ready:
    """A turn that can be computed: from what, and what it sees. watch: who looks at its attention, if anybody."""

    turn: Turn
    script: Script
    past: Past | None
    watch: Noting | None = None


def joins(base: Base) -> bool:
    """Whether a model computes several adapters in one batch: it is whole, on one device, its weights are numbers, and
    it keeps nothing but keys and values."""
    whole = base.recurrent is None and not base.sharded and not is_spread(base.model)
    return whole and all(map(is_plain, base.adapted))


def joinable(several: Sequence[Ready]) -> bool:
    """Whether what they read fits in one batch: as many rows each, and not much padding."""
    scripts, pasts = [one.script for one in several], [one.past for one in several]
    rows = {len(script.start) for script in scripts}
    kinds = {script.prompt.inputs.is_floating_point() for script in scripts}
    widths = [script.prompt.real.shape[1] for script in scripts]
    plain = all(script.change is None and script.gate is None and script.label is None for script in scripts)
    gated = any(past is not None and past.columns.open is not None for past in pasts)
    depths = {None if past is None else past.columns.seen.shape[1] for past in pasts}
    return fits(widths) and plain and not gated and len(rows) == len(kinds) == len(depths) == 1


def together(
    base: Base,
    adapters: Sequence[str | None],
    several: Sequence[Ready],
    noted: Sequence[Aliases | None],
    recordings: Recordings | None,
    profiled: bool,
) -> list[Activated]:
    """What each of them writes, under its adapter. noted: aliases of its adapter's parameters, if there are any; the
    rest as of `activate`."""
    script, past = joined(base, several)
    script = replace(script, named=label_of(profiled, script.name))
    aliases = {name: own for each in noted for name, own in (each or {}).items()} or None
    beside = [adapter for adapter in adapters[1:] if adapter is not None]
    done = activate(base, adapters[0], script, past, False, aliases, None, recordings, beside)
    return apart(done, several)


def joined(base: Base, several: Sequence[Ready]) -> tuple[Script, Past | None]:
    """All of them as one."""
    scripts = [one.script for one in several]
    width = max(script.prompt.real.shape[1] for script in scripts)
    inputs = [_widened(script.prompt.inputs, width, 1, base.padding) for script in scripts]
    real = torch.cat([_widened(script.prompt.real, width, 1) for script in scripts])
    lengths = tuple(length for script in scripts for length in script.prompt.lengths)
    whole = replace(
        scripts[0],
        prompt=Block(torch.cat(inputs), real, lengths),
        start=torch.cat([script.start for script in scripts]),
        hidden=any(script.hidden for script in scripts),
        name="+".join(script.name for script in scripts),
    )
    return whole, _pasts([one.past for one in several if one.past is not None])


def _pasts(several: Sequence[Past]) -> Past | None:
    """What all of them see: columns that one has not are seen by nobody."""
    if not several:
        return None
    width = max(past.columns.place.shape[1] for past in several)
    layers = tuple(
        (torch.cat([_widened(keys, width, 2) for keys, _ in same]), torch.cat([_widened(v, width, 2) for _, v in same]))
        for same in zip(*(past.layers for past in several), strict=True)
    )
    seen = torch.cat([_widened(past.columns.seen, width, 2) for past in several])
    place = torch.cat([_widened(past.columns.place, width, 1) for past in several])
    return Past(layers, Columns(seen, place))


def _widened(tensor: Tensor, width: int, dim: int, value: int = 0) -> Tensor:
    """The same with so many columns along a dimension, new ones at its end."""
    more, behind = width - tensor.shape[dim], tensor.dim() - 1 - dim
    return pad(tensor, (*[0] * 2 * behind, 0, more), value=value) if more else tensor


def apart(done: Activated, several: Sequence[Ready]) -> list[Activated]:
    """What each has written, of what all have."""
    rows, segment = len(several[0].script.start), done.segment
    layers = [(keys.split(rows), values.split(rows)) for keys, values in segment.layers]
    parts = [one.split(rows) for one in (segment.real, segment.start, done.last, done.label, done.fed)]
    hidden = None if segment.hidden is None else segment.hidden.split(rows)
    found = []
    for i, one in enumerate(several):
        real, start, last, label, fed = (part[i] for part in parts)
        width = one.script.prompt.real.shape[1]
        cut = partial(_narrowed, own=width, wide=segment.prompt)
        own: KeysValues = tuple((cut(keys[i], 2), cut(values[i], 2)) for keys, values in layers)
        kept = cut(hidden[i], 1) if hidden is not None and one.script.hidden else None
        written = Segment(own, cut(real, 1), start, width, segment.latents, kept)
        found.append(Activated(written, last, label, fed))
    return found


def _narrowed(tensor: Tensor, dim: int, own: int, wide: int) -> Tensor:
    """The same without the columns of a prompt that stand behind its own width."""
    if own == wide:
        return tensor
    prompt, _, rest = tensor.split([own, wide - own, tensor.shape[dim] - wide], dim)
    return torch.cat([prompt, rest], dim) if rest.shape[dim] else prompt
