"""Segments: what one agent activation wrote, and how a later one sees it (docs/semantics.md, sections 3 to 5).

A segment's columns are P prompt positions (right-padded to the longest of the batch), m latent positions, then the
tokens it decoded (right-padded). Keys are stored after rotary embedding, at the positions at which they were written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from masc.backends.torch.model.attention import Columns
from masc.compiler.ir.plan import End, View

KeysValues = tuple[tuple[Tensor, Tensor], ...]
"""For each layer the keys and the values, each [B, H, columns, D]."""


@dataclass(frozen=True)
class Segment:
    """layers: keys and values of its columns. real: bool [B, C], False where padded. start: long [B], the first
    position. prompt, latents: how many columns are prompt and latent; the rest are tokens. hidden: final hidden states
    of prompt and latents, [B, prompt + latents, d], where somebody is sent them."""

    layers: KeysValues
    real: Tensor
    start: Tensor
    prompt: int
    latents: int
    hidden: Tensor | None = None

    @property
    def place(self) -> Tensor:
        """The position of each real column, long [B, C]: real ones follow each other without gaps."""
        return self.start[:, None] + self.real.cumsum(1) - 1

    @property
    def length(self) -> Tensor:
        """Real positions of each sample, long [B]."""
        return self.real.sum(1)

    def end(self, part: str) -> Tensor:
        """The position after the last one (of the latents, if `part` says so), long [B]."""
        real = self.real[:, : self.prompt + self.latents] if part == "latents" else self.real
        return self.start + real.sum(1)


@dataclass(frozen=True)
class Past:
    """What a receiver sees: keys and values [B, H, T, D] by layer, and which columns and where."""

    layers: KeysValues
    columns: Columns


Piece = tuple[KeysValues, Columns]
"""Keys and values of one segment, and which of their columns are seen and where."""


@dataclass(frozen=True)
class Opening:
    """Where training stands in opening and closing its channels (`open = N`).

    Over its N steps a view that goes away is there for a shrinking share of the samples: sample b sees it at a step if
    draws[b] >= step / N. draws: float [B], uniform in [0, 1).
    """

    step: int
    draws: Tensor

    def rows(self, until: int) -> Tensor:
        """bool [B]: the samples for which a view with this `until` exists now."""
        return self.draws >= self.step / until


def start_of(ends: Sequence[End], segments: Mapping[str, Segment], like: Tensor) -> Tensor:
    """The first position of a new segment, long [B]: after the largest end. like: any tensor [B, ...], for device
    and B."""
    start = torch.zeros(like.shape[0], dtype=torch.long, device=like.device)
    for end in ends:
        offset = _offset(end.shift, segments)
        position = segments[end.segment].end(end.part)
        start = torch.maximum(start, position if offset is None else position + offset)
    return start


def look(
    views: Sequence[View],
    segments: Mapping[str, Segment],
    opening: Opening | None,
    count: int,
    rotate: Callable[[Tensor, Tensor, int], Tensor],
) -> Past | None:
    """What a receiver with these views sees, or None if that is nothing.

    count: the number of layers. rotate(keys [B, H, C, D], offset [B], layer): moves keys to later positions. Without an
    `opening` (evaluation, running) only the final views exist.
    """
    pieces = [piece(group, segments, opening, count, rotate) for group in by_segment(views, opening).values()]
    return joined(pieces, count)


def by_segment(views: Sequence[View], opening: Opening | None = None) -> dict[str, list[View]]:
    """The views that exist now, by what they are of."""
    grouped: dict[str, list[View]] = {}
    for view in views:
        if view.until is None or (opening is not None and opening.step < view.until):
            grouped.setdefault(view.segment, []).append(view)
    return grouped


def joined(pieces: Sequence[Piece], count: int) -> Past | None:
    """Pieces of several segments side by side."""
    if not pieces:
        return None
    if len(pieces) == 1:
        return Past(*pieces[0])
    by_layer = any(columns.seen.shape[1] > 1 for _, columns in pieces)
    seen = torch.cat([c.seen.expand(-1, count, -1) if by_layer else c.seen for _, c in pieces], dim=2)
    place = torch.cat([c.place for _, c in pieces], dim=1)
    layers = tuple(
        (torch.cat([p[i][0] for p, _ in pieces], dim=2), torch.cat([p[i][1] for p, _ in pieces], dim=2))
        for i in range(count)
    )
    return Past(layers, Columns(seen, place))


def piece(
    views: list[View],
    segments: Mapping[str, Segment],
    opening: Opening | None,
    count: int,
    rotate: Callable[[Tensor, Tensor, int], Tensor],
) -> Piece:
    """Keys and values of one segment as its views show it, and which of them are seen and where they stand."""
    segment = segments[views[0].segment]
    columns = columns_of(views, segment)
    depth = 1 if all(view.layers is None for view in views) else count
    seen = seen_of(views, segment, columns, opening, depth)
    offset = _offset(views[0].shift, segments)
    full = full_of(views, segment, columns, opening, depth)
    layers = []
    for layer, (keys, values) in enumerate(segment.layers):
        keys, values = let_through(keys[:, :, columns], full, layer), let_through(values[:, :, columns], full, layer)
        layers.append((keys if offset is None else rotate(keys, offset, layer), values))
    place = segment.place[:, columns]
    return tuple(layers), Columns(seen, place if offset is None else place + offset[:, None])


def columns_of(views: Sequence[View], segment: Segment) -> slice:
    """The columns of a segment that its views may show: only the latents if none shows more."""
    if all(view.part == "latents" for view in views):
        return slice(segment.prompt, segment.prompt + segment.latents)
    return slice(0, segment.real.shape[1])


def seen_of(views: Sequence[View], segment: Segment, columns: slice, opening: Opening | None, depth: int) -> Tensor:
    """Which of some columns of a segment its views show, bool [B, depth, C]. depth: 1, or the number of layers."""
    first, last = segment.prompt, segment.prompt + segment.latents
    real = segment.real[:, columns]
    seen = torch.zeros(real.shape[0], depth, real.shape[1], dtype=torch.bool, device=real.device)
    for view in views:
        shown = real
        if view.part == "latents" and columns.start == 0:
            place = torch.arange(real.shape[1], device=real.device)
            shown = real & (place >= first) & (place < last)
        if view.until is not None and opening is not None:
            shown = shown & opening.rows(view.until)[:, None]
        seen |= shown[:, None] & _layer_row(view, depth, real.device)[None, :, None]
    return seen


def full_of(
    views: Sequence[View], segment: Segment, columns: slice, opening: Opening | None, depth: int
) -> Tensor | None:
    """Through which of some columns a gradient goes back, bool [B, depth, C]; None: through all that are seen."""
    if not any(view.stop for view in views):
        return None
    return seen_of([view for view in views if not view.stop], segment, columns, opening, depth)


def let_through(tensor: Tensor, full: Tensor | None, layer: int) -> Tensor:
    """Keys or values [B, H, C, D] of a layer, through which a gradient goes back in some columns only (`full_of`)."""
    if full is None:
        return tensor
    here = full[:, layer if full.shape[1] > 1 else 0]
    return torch.where(here[:, None, :, None], tensor, tensor.detach())


def _layer_row(view: View, depth: int, device: torch.device) -> Tensor:
    row = torch.full((depth,), view.layers is None, dtype=torch.bool, device=device)
    for low, high in view.layers or ():
        row[low : high + 1] = True
    return row


def _offset(shift: Sequence[str], segments: Mapping[str, Segment]) -> Tensor | None:
    """The summed lengths of the segments in `shift`, long [B]."""
    if not shift:
        return None
    return torch.stack([segments[name].length for name in shift]).sum(0)
