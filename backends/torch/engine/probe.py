"""Probes: what is done, at run time, to what one edge carries, to find out whether it matters (`masc audit`).

What crosses an edge is told by two plans, the whole one and the one with that edge cut: all that an activation sees in
the first and not in the second. So a probe holds for every path through the edge, as `--cut` does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from masc.backends.torch.model.adapters import derive
from masc.backends.torch.model.attention import Columns, Watch
from masc.backends.torch.model.gates import OPEN, Open
from masc.backends.torch.model.segments import (
    Past,
    Piece,
    Segment,
    by_segment,
    columns_of,
    full_of,
    joined,
    open_of,
    piece,
    seen_of,
)
from masc.compiler.analysis.sights import Sights, sights
from masc.compiler.ir.arrival import Arrival
from masc.compiler.ir.plan import Plan, Turn, View

Kind = Literal["swap", "noise", "layers", "watch"]


@dataclass
class Probe:
    """Something that is done to an edge.

    swap    every sample gets what another one of the batch would have sent (the one before it), moved so that it ends
            where its own would have
    noise   normal noise instead, of the same norm in each position, head and layer
    layers  only these layers of the receiver see it (inclusive)
    watch   nothing is changed; gradients that cross it are noted and, for batches of one row, the attention of
            `receiver` (an agent) on it

    plan: the plan with the edge cut. squares: of the gradients' norms, one number a tensor that crossed. watches: one
    for each activation of the receiver.
    """

    plan: Plan
    kind: Kind
    layers: tuple[int, int] | None = None
    receiver: str = ""
    seed: int = 0
    squares: list[float] = field(default_factory=list)
    watches: list[Watch] = field(default_factory=list)

    @cached_property
    def sights(self) -> Sights:
        """What is seen without the edge."""
        return sights(self.plan)

    def crosses(self, turn: Turn, arrival: Arrival) -> bool:
        """Whether something that arrives otherwise than as keys and values comes through the edge."""
        return arrival not in self.plan.turn(turn.activation).arrives

    # -- keys and values to look at --------------------------------------------------------------------------------

    def look(
        self,
        activation: str,
        views: Sequence[View],
        segments: Mapping[str, Segment],
        count: int,
        rotate: Callable[[Tensor, Tensor, int], Tensor],
        gates: Open = OPEN,
    ) -> tuple[Past | None, Tensor | None]:
        """As `segments.look`, probed; and which columns came through the edge, bool [B, 1 or L, T] (None: none did)."""
        kept = by_segment(self.sights[activation], None, gates)
        pieces: list[Piece] = []
        # By place in `pieces`: what came through the edge, and which of it a gradient goes back through (None: all).
        through: dict[int, tuple[str, Tensor | None]] = {}
        for name, own in by_segment(views, None, gates).items():
            layers, columns = piece(own, segments, None, count, rotate, gates)
            rest = kept.get(name, [])
            depth = max(columns.seen.shape[1], count if any(view.layers is not None for view in rest) else 1)
            depth = count if self.kind == "layers" else depth
            whole = columns.seen.expand(-1, depth, -1)
            place = columns_of(own, segments[name])
            still = seen_of(rest, segments[name], place, None, depth, gates)
            extra = whole & ~still
            gate = self._open(columns, rest, segments[name], place, gates, count)
            if not bool(extra.any()):
                pieces.append((layers, replace(columns, open=gate)))
                continue
            if bool(still.any()):
                pieces.append((layers, replace(columns, seen=still, open=gate)))
            through[len(pieces)] = name, full_of(own, segments[name], place, None, depth, gates)
            pieces.append((layers, replace(columns, seen=extra)))
        if self.kind == "swap" and through:
            offset = self._offset([pieces[at][1] for at in through])
            for at in through:
                pieces[at] = self._swapped(pieces[at], offset, rotate)
        else:
            for at, (name, full) in through.items():
                pieces[at] = self._altered(pieces[at], name, full)
        past = joined(pieces, count)
        if past is None:
            return None, None
        crossed = [one.seen if at in through else torch.zeros_like(one.seen) for at, (_, one) in enumerate(pieces)]
        deep = max(one.shape[1] for one in crossed)
        return past, torch.cat([one.expand(-1, deep, -1) for one in crossed], 2)

    def _open(
        self, columns: Columns, rest: list[View], segment: Segment, place: slice, gates: Open, count: int
    ) -> Tensor | None:
        """How far the columns are open that are seen without the edge, too: as they are with it, but where it is taken
        away (`layers`) as they are without it."""
        if self.kind != "layers":
            return columns.open
        alone, beside = open_of(rest, segment, place, None, count, gates, None), columns.open
        known = beside if alone is None else alone
        if known is None:
            return None
        one = known.new_ones(1, 1, 1)
        alone, beside = one if alone is None else alone, one if beside is None else beside
        return torch.where(self._row(columns.seen.expand(-1, count, -1)), beside, alone)

    def _offset(self, pieces: Sequence[Columns]) -> Tensor:
        """By how much what a sample gets in exchange is moved, long [B]: all pieces alike, so that the last of what
        crosses stands where the last of the sample's own would have."""
        ends = [columns.place.masked_fill(~columns.seen.any(1), -1).amax(1) for columns in pieces]
        end = torch.stack(ends).amax(0)
        return end - end[self.other(len(end), end.device)]

    def _swapped(self, one: Piece, offset: Tensor, rotate: Callable[[Tensor, Tensor, int], Tensor]) -> Piece:
        layers, columns = one
        other = self.other(len(offset), offset.device)
        moved = tuple((rotate(k[other], offset, i), v[other]) for i, (k, v) in enumerate(layers))
        gate = None if columns.open is None else columns.open[other]
        return moved, Columns(columns.seen[other], columns.place[other] + offset[:, None], gate)

    def _altered(self, one: Piece, name: str, full: Tensor | None) -> Piece:
        layers, columns = one
        if self.kind == "noise":
            noisy = tuple((self.noise(k, name, i, 0), self.noise(v, name, i, 1)) for i, (k, v) in enumerate(layers))
            return noisy, columns
        if self.kind == "layers":
            return layers, replace(columns, seen=columns.seen & self._row(columns.seen))
        watched = []
        for i, pair in enumerate(layers):
            here = None if full is None else full[:, i if full.shape[1] > 1 else 0, None, :, None]
            watched.append((self.watched(pair[0], here), self.watched(pair[1], here)))
        return tuple(watched), columns

    def _row(self, seen: Tensor) -> Tensor:
        assert self.layers is not None
        row = torch.arange(seen.shape[1], device=seen.device)
        return ((row >= self.layers[0]) & (row <= self.layers[1]))[None, :, None]

    # -- what is done to a tensor ----------------------------------------------------------------------------------

    @staticmethod
    def other(batch: int, device: torch.device) -> Tensor:
        """Whose content each sample gets: long [B], the sample before it."""
        return torch.arange(batch, device=device).roll(1)

    def noise(self, tensor: Tensor, *name: str | int) -> Tensor:
        """Normal noise [..., D] with the norm of each vector, the same on every device."""
        generator = torch.Generator().manual_seed(derive(self.seed, *name))
        drawn: Tensor = torch.randn(tensor.shape, generator=generator, dtype=torch.float32, device="cpu").to(
            tensor.device
        )
        wanted, has = (one.float().pow(2).sum(-1, keepdim=True).sqrt() for one in (tensor, drawn))
        return (drawn * (wanted / has.clamp_min(1e-12))).to(tensor.dtype)

    def watched(self, tensor: Tensor, full: Tensor | None = None) -> Tensor:
        """The tensor, its gradient noted: also that of what a frozen agent sent, but none where the edge stops it
        (full: where it does not, as a tensor that broadcasts; None: nowhere)."""
        if not torch.is_grad_enabled():
            return tensor
        alias = tensor.view_as(tensor) if tensor.requires_grad else tensor.detach().requires_grad_()

        def note(gradient: Tensor) -> None:
            crossed = gradient.double() if full is None else gradient.double() * full
            self.squares.append(float(crossed.pow(2).sum()))

        alias.register_hook(note)
        return alias

    def vectors(self, vectors: Tensor, name: str, stop: bool) -> Tensor:
        """Vectors [B, N, d] that are spliced into a prompt. stop: whether the edge stops gradients."""
        if self.kind == "swap":
            return vectors[self.other(len(vectors), vectors.device)]
        if self.kind == "noise":
            return self.noise(vectors, name, "vectors")
        return self.watched(vectors) if self.kind == "watch" and not stop else vectors

    def segment(self, segment: Segment, name: str, stop: bool) -> Segment:
        """A segment whose keys and values are fused. stop: whether the edge stops gradients."""
        if self.kind == "swap":
            other = self.other(len(segment.start), segment.start.device)
            layers = tuple((k[other], v[other]) for k, v in segment.layers)
            return replace(segment, layers=layers, real=segment.real[other], start=segment.start[other])
        if self.kind == "noise":
            pairs = enumerate(segment.layers)
            noisy = tuple((self.noise(k, name, i, 0), self.noise(v, name, i, 1)) for i, (k, v) in pairs)
            return replace(segment, layers=noisy)
        if self.kind == "watch" and not stop:
            return replace(segment, layers=tuple((self.watched(k), self.watched(v)) for k, v in segment.layers))
        return segment

    # -- attention -------------------------------------------------------------------------------------------------

    def watch(
        self,
        turn: Turn,
        crossed: Tensor | None,
        spliced: Sequence[tuple[Arrival, int]],
        ids: Sequence[int],
        device: torch.device,
    ) -> Watch | None:
        """What notes the attention of one activation of the receiver. crossed: bool [1, 1 or L, T], of the past;
        spliced: how many vectors each arrival puts into its prompt; ids: the prompt's, -1 - i where vector i stands."""
        if self.kind != "watch" or turn.agent != self.receiver:
            return None
        held = [self.crosses(turn, arrival) for arrival, width in spliced for _ in range(width)]
        own = torch.tensor([i < 0 and held[-1 - i] for i in ids], dtype=torch.bool, device=device)
        past = crossed[0] if crossed is not None else own.new_zeros(1, 0)
        made = Watch(torch.cat([past, own[None].expand(past.shape[0], -1)], 1))
        self.watches.append(made)
        return made
