"""How a model rotates its keys, found out by trying: what moves them to another place (docs/semantics.md, section 5.3).

Models differ in how much of a head they rotate, in which numbers make a pair, and in the layers that have a rotary
embedding at all; their configurations say it in many ways. So each layer's keys are computed at two places, and what
leads from one to the other is looked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import get_ident
from typing import Any

import torch
from torch import Tensor, nn

NEAR = 0.02
"""How far moved keys may be from those of a run at the new place, relative to their norm: less than this is rounding
(of bfloat16), and a wrong rotation is far more."""


@dataclass(frozen=True)
class Rotation:
    """frequency: radians a position, [R / 2] (negative: the other way round), for R numbers of each head: the last ones
    if `behind`, else the first. pairs: number 2i turns with 2i + 1, else i with i + R / 2."""

    frequency: Tensor
    pairs: bool
    behind: bool = False

    def move(self, keys: Tensor, offset: Tensor) -> Tensor:
        """Rotated keys [B, H, C, D] as they are `offset` positions ([B], or [B, C] for each column) later. Exact and
        differentiable.

        Rotations add, so this multiplies by the rotation of the offset alone: cos and sin unscaled (under yarn the
        model's own carry a factor that the keys already have).
        """
        wide = keys.to(torch.promote_types(keys.dtype, torch.float32))
        angle = offset.to(wide.device, wide.dtype)[..., None] * self.frequency.to(wide.device, wide.dtype)
        angle = angle[:, None, None, :] if offset.dim() == 1 else angle[:, None]
        size = 2 * self.frequency.shape[0]
        rest = wide.shape[-1] - size
        turned, kept = (wide[..., rest:], wide[..., :rest]) if self.behind else (wide[..., :size], wide[..., size:])
        low, high = (turned[..., ::2], turned[..., 1::2]) if self.pairs else turned.chunk(2, dim=-1)
        cos, sin = angle.cos(), angle.sin()
        both = low * cos - high * sin, high * cos + low * sin
        turned = torch.stack(both, -1).flatten(-2) if self.pairs else torch.cat(both, -1)
        if rest:
            turned = torch.cat([kept, turned] if self.behind else [turned, kept], -1)
        return turned.to(keys.dtype)


def candidates(decoder: nn.Module, width: int) -> Iterator[Rotation]:
    """What the keys of a decoder, of so many numbers a head, may be rotated by."""
    named = {n: b for n, b in decoder.named_buffers() if n.endswith("inv_freq") and "original" not in n}
    for frequency in named.values():
        size = 2 * frequency.shape[0]
        if size <= width:
            for pairs in (False, True):
                for behind in (False, True) if size < width else (False,):
                    yield from (Rotation(turning, pairs, behind) for turning in (frequency, -frequency))


@contextmanager
def reading_the_same(blocks: Iterable[nn.Module]) -> Iterator[None]:
    """Within it, each block reads in all runs of this thread what it read in the first one, whatever the blocks before
    it make: so that no rounding of theirs adds up in what is held against each other."""
    read: dict[nn.Module, Tensor] = {}
    here = get_ident()

    def hook(block: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if get_ident() != here:  # others may use the model meanwhile
            return given, named
        if given:
            return (read.setdefault(block, given[0]), *given[1:]), named
        return given, {**named, "hidden_states": read.setdefault(block, named["hidden_states"])}

    hooks = [block.register_forward_pre_hook(hook, with_kwargs=True) for block in blocks]
    try:
        yield
    finally:
        for one in hooks:
            one.remove()


Pair = tuple[Tensor, Tensor]
"""Keys and values of a layer, each [B, H, C, D]."""


def fitting(here: Pair, there: Pair, offset: Tensor, known: Sequence[Rotation]) -> tuple[Rotation | None, float]:
    """What leads from keys to the same ones `offset` [B] positions later (None: they do not move at all), and how far
    it stays from them, relative to their norm. Values must stay as they are: how far they do not counts as well."""
    ways: list[Rotation | None] = [None, *known]
    errors = [_apart(here[0] if way is None else way.move(here[0], offset), there[0]) for way in ways]
    best = min(range(len(ways)), key=errors.__getitem__)
    return ways[best], max(errors[best], _apart(here[1], there[1]))


def _apart(one: Tensor, other: Tensor) -> float:
    return float((one.double() - other.double()).norm() / other.double().norm().clamp_min(1e-30))
