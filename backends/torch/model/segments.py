"""Segments: what one agent activation wrote, and how a later one sees it (docs/semantics.md, sections 3 to 5).

A segment's columns are P prompt positions (right-padded to the longest of the batch), m latent positions, then the
tokens it decoded (right-padded). Keys are stored after rotary embedding, at the positions at which they were written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from masc.backends.torch.model.attention import Columns, opened
from masc.backends.torch.model.gates import OPEN, Open, product
from masc.compiler.ir.plan import End, View

KeysValues = tuple[tuple[Tensor, Tensor], ...]
"""For each layer the keys and the values, each [B, H, columns, D]."""
States = tuple[Tensor, ...]
"""What else layers keep of all that was read up to a column, each [B, ...] (`recurrent.Recurrent.states`)."""


@dataclass(frozen=True)
class Segment:
    """layers: keys and values of its columns. real: bool [B, C], False where padded. start: long [B], the first
    position. prompt, latents: how many columns are prompt and latent; the rest are tokens. hidden: final hidden states
    of prompt and latents, [B, prompt + latents, d], where somebody is sent them. gate: how far the prompt's columns are
    open to whoever looks, [B, prompt], where vectors stand in it that came through a gate (None: all are). states: what
    layers keep beside that, at its end."""

    layers: KeysValues
    real: Tensor
    start: Tensor
    prompt: int
    latents: int
    hidden: Tensor | None = None
    gate: Tensor | None = None
    states: States = ()

    @property
    def place(self) -> Tensor:
        """The position of each real column, long [B, C]: real ones follow each other without gaps."""
        return self.start[:, None] + self.real.cumsum(1) - 1

    @property
    def length(self) -> Tensor:
        """Real positions of each sample, long [B]."""
        return self.real.sum(1)

    def to(self, device: torch.device) -> Segment:
        """The same on another device; gradients come back. Nothing is copied where it is there already."""
        if self.real.device == device:
            return self
        layers = tuple((keys.to(device), values.to(device)) for keys, values in self.layers)
        hidden, gate = (None if one is None else one.to(device) for one in (self.hidden, self.gate))
        real, start, states = self.real.to(device), self.start.to(device), tuple(one.to(device) for one in self.states)
        return replace(self, layers=layers, real=real, start=start, hidden=hidden, gate=gate, states=states)

    def end(self, part: str) -> Tensor:
        """The position after the last one (of the latents, if `part` says so), long [B]."""
        real = self.real[:, : self.prompt + self.latents] if part == "latents" else self.real
        return self.start + real.sum(1)


@dataclass(frozen=True)
class Past:
    """What a receiver sees: keys and values [B, H, T, D] by layer, and which columns and where. states: what layers
    begin with beside that."""

    layers: KeysValues
    columns: Columns
    states: States = ()


Piece = tuple[KeysValues, Columns]
"""Keys and values of one segment, and which of their columns are seen and where."""


@dataclass(frozen=True)
class Opening:
    """Where training stands in opening and closing its channels (`open = N`).

    Over its N steps a view that goes away is there for a shrinking share of the samples: sample b sees it at a step if
    draws[b] >= step / N. draws: float [B], uniform in [0, 1). gates: by the name of an edge (`kv(a, b)`) what its gate
    is drawn from, float [B], uniform in (0, 1); an edge that is missing has the gate that it has when the graph is run.
    judged: the trainer gives gates their gradient by what samples lose (`votes`), and none is wanted through them.
    """

    step: int
    draws: Tensor
    gates: Mapping[str, Tensor] = field(default_factory=dict)
    judged: bool = False

    def rows(self, until: int) -> Tensor:
        """bool [B]: the samples for which a view with this `until` exists now."""
        return self.draws >= self.step / until

    def of(self, samples: slice | list[int], device: torch.device) -> Opening:
        """The same for some of the samples."""
        gates = {name: draws[samples].to(device) for name, draws in self.gates.items()}
        return replace(self, draws=self.draws[samples].to(device), gates=gates)


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
    gates: Open = OPEN,
) -> Past | None:
    """What a receiver with these views sees, or None if that is nothing.

    count: the number of layers. rotate(keys [B, H, C, D], offset [B], layer): moves keys to later positions. Without an
    `opening` (evaluation, running) only the final views exist. gates: how far those of edges are open; what comes of
    them stands in `Past.columns.open`, a float beside `seen`, and `attention.block_mask` makes a mask of both. Nothing
    of it is kept anywhere: another engine may call this with the same arguments.
    """
    grouped = by_segment(views, opening, gates)
    return joined([piece(group, segments, opening, count, rotate, gates) for group in grouped.values()], count)


def by_segment(views: Sequence[View], opening: Opening | None = None, gates: Open = OPEN) -> dict[str, list[View]]:
    """The views that exist now, by what they are of: not those behind a gate that is closed for all."""
    grouped: dict[str, list[View]] = {}
    for view in views:
        there = view.until is None or (opening is not None and opening.step < view.until)
        if there and all(gates.get(gate, 1) is not None for gate in view.gates):
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
        for i in range(len(pieces[0][0]))
    )
    return Past(layers, Columns(seen, place, opened(*((c.open, c.seen) for _, c in pieces))))


def piece(
    views: list[View],
    segments: Mapping[str, Segment],
    opening: Opening | None,
    count: int,
    rotate: Callable[[Tensor, Tensor, int], Tensor],
    gates: Open = OPEN,
) -> Piece:
    """Keys and values of one segment as its views show it, and which of them are seen and where they stand."""
    segment = segments[views[0].segment]
    columns = columns_of(views, segment)
    depth = 1 if all(view.layers is None for view in views) else count
    seen = seen_of(views, segment, columns, opening, depth, gates)
    offset = _offset(views[0].shift, segments)
    full = full_of(views, segment, columns, opening, depth, gates)
    layers = []
    for layer, (keys, values) in enumerate(segment.layers):
        keys, values = let_through(keys[:, :, columns], full, layer), let_through(values[:, :, columns], full, layer)
        layers.append((keys if offset is None else rotate(keys, offset, layer), values))
    place = segment.place[:, columns]
    gate = open_of(views, segment, columns, opening, depth, gates, full)
    return tuple(layers), Columns(seen, place if offset is None else place + offset[:, None], gate)


def columns_of(views: Sequence[View], segment: Segment) -> slice:
    """The columns of a segment that its views may show: only the latents if none shows more."""
    if all(view.part == "latents" for view in views):
        return slice(segment.prompt, segment.prompt + segment.latents)
    return slice(0, segment.real.shape[1])


def seen_of(
    views: Sequence[View], segment: Segment, columns: slice, opening: Opening | None, depth: int, gates: Open = OPEN
) -> Tensor:
    """Which of some columns of a segment its views show, bool [B, depth, C]: not what is behind a closed gate. depth:
    1, or the number of layers."""
    real = segment.real[:, columns]
    seen = torch.zeros(real.shape[0], depth, real.shape[1], dtype=torch.bool, device=real.device)
    for view in views:
        shown = _shown(view, segment, columns, opening, depth)
        gate = product(view.gates, gates)
        seen |= shown if gate is None else shown & (gate > 0)[:, None, None]
    return seen


def _shown(view: View, segment: Segment, columns: slice, opening: Opening | None, depth: int) -> Tensor:
    """What one view shows, whatever its gates are, bool [B, depth, C]."""
    shown = segment.real[:, columns]
    if view.part == "latents" and columns.start == 0:
        place = torch.arange(shown.shape[1], device=shown.device)
        shown = shown & (place >= segment.prompt) & (place < segment.prompt + segment.latents)
    if view.until is not None and opening is not None:
        shown = shown & opening.rows(view.until)[:, None]
    return shown[:, None] & _layer_row(view, depth, shown.device)[None, :, None]


def full_of(
    views: Sequence[View], segment: Segment, columns: slice, opening: Opening | None, depth: int, gates: Open = OPEN
) -> Tensor | None:
    """Through which of some columns a gradient goes back, bool [B, depth, C]; None: through all that are seen."""
    if not any(view.stop for view in views):
        return None
    return seen_of([view for view in views if not view.stop], segment, columns, opening, depth, gates)


def open_of(
    views: Sequence[View],
    segment: Segment,
    columns: slice,
    opening: Opening | None,
    depth: int,
    gates: Open,
    full: Tensor | None,
) -> Tensor | None:
    """How far gates open some columns of a segment, [B, 1 or depth, C] from 0 to 1; None: no gate has a say. Of several
    ways to a column the widest counts. full: as `full_of`; where it is not, the segment's own gate is a constant."""
    ways = [(view, product(view.gates, gates)) for view in views]
    found: Tensor | None = None
    if gated := [way for _, way in ways if way is not None]:
        for view, way in ways:
            shown = _shown(view, segment, columns, opening, depth).to(gated[0].dtype)
            shown = shown if way is None else shown * way[:, None, None]
            # Not `maximum`, which halves the gradient where two are equal.
            found = shown if found is None else torch.where(shown > found, shown, found)
    if segment.gate is None:
        return found
    own = segment.gate.new_ones(segment.real.shape)
    own = torch.cat([segment.gate, own[:, segment.prompt :]], 1)[:, None, columns]
    own = own if full is None else torch.where(full, own, own.detach())
    return own if found is None else found * own


def let_through(tensor: Tensor, full: Tensor | None, layer: int) -> Tensor:
    """Keys or values [B, H, C, D] of a layer, through which a gradient goes back in some columns only (`full_of`)."""
    if full is None:
        return tensor
    here = full[:, layer if full.shape[1] > 1 else 0].to(tensor.device)
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
