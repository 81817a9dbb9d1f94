"""Keys and values of rows that run side by side, in memory that is there before they are, each written in its place.

Every row has a slot: its columns begin at 0 and follow each other without gaps or padding, what it sees of others first
and then its own. What a slot does not hold, or a row does not see, is hidden by a bias of -inf.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import Cache

from masc.backends.torch.model.base import Base
from masc.backends.torch.model.capture import Captures
from masc.backends.torch.model.layout import Packed
from masc.backends.torch.model.recurrent import Recurrent
from masc.backends.torch.model.segments import KeysValues, States
from masc.compiler.ir.ranges import Layers

STEP = 64
"""Widths are multiples of it: passes of few different shapes, and memory that attention reads in whole lines."""
HIDDEN = float("-inf")


def rounded(columns: int) -> int:
    return -(-columns // STEP) * STEP


class InPlace(Cache):
    """What a pass of the model reads and writes: views [n, H, W, D] of some slots, for each layer, and layers whose
    states are such views, which are written over.

    at: where the new columns go. An int: the first of them, the same in all rows; a tensor, long [1]: the one new
    column, the same in all rows; two of them, long [n, Q] each: row and column of every new one.
    """

    def __init__(self, views: KeysValues, at: int | Tensor | tuple[Tensor, Tensor], layers: Sequence[Any] = ()) -> None:
        super().__init__(layers=list(layers))
        self.views, self.at = views, at

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        keys, values = self.views[layer_idx]
        at = self.at
        if isinstance(at, int):
            last = at + key_states.shape[2]
            keys[:, :, at:last] = key_states
            values[:, :, at:last] = value_states
        elif isinstance(at, tuple):
            keys.transpose(1, 2).index_put_(at, key_states.transpose(1, 2))
            values.transpose(1, 2).index_put_(at, value_states.transpose(1, 2))
        else:
            keys.index_copy_(2, at, key_states)
            values.index_copy_(2, at, value_states)
        return keys, values

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        return query_length, 0


class Slots:
    """Slots of one base model, and how far each is written.

    kv: by shape [n, S, H, T, D], keys (after rotary embedding) and values; states: what layers keep beside these, at
    the end of each slot, [S, ...] (`recurrent.Recurrent.states`); bias: [S, M, 1, T], what attention adds to the
    scores of each column, 0 where it is seen (M is 1, or L where layers differ in what they see); place: long [S, T],
    the position of each column (only where windows ask for it). length and position: of each slot how many columns it
    holds, and the next position; the host knows them without asking the device.
    """

    def __init__(self, base: Base, slots: int, by_layer: bool) -> None:
        self.base, self.count = base, slots
        self.dtype, self.device = base.weight.dtype, base.device
        self.layout, states = base.kept
        self.states: States = tuple(one.new_zeros(slots, *one.shape[1:]) for one in states)
        self.windows = base.windows
        deep = base.layers if by_layer else 1
        self.room = 0
        """Columns of each slot."""
        sizes = zip(self.layout.counts, self.layout.shapes, strict=True)
        self.kv: Packed = tuple(self._empty((count, slots, heads, 0, wide)) for count, (heads, wide) in sizes)
        self.bias = torch.full((slots, deep, 1, 0), HIDDEN, dtype=self.dtype, device=self.device)
        self.place = torch.zeros(slots, 0, dtype=torch.long, device=self.device)
        self.length, self.position = [0] * slots, [0] * slots
        self.rows = torch.arange(slots, device=self.device)[:, None]
        self.captures = Captures.on(self.device)

    def fits(self, base: Base, count: int, by_layer: bool) -> bool:
        """Whether they may be used in the place of new ones."""
        there = (self.dtype, self.device, self.bias.shape[1])
        asked = (base.weight.dtype, base.device, base.layers if by_layer else 1)
        return self.base is base and there == asked and count <= self.count

    def _empty(self, shape: tuple[int, ...]) -> Tensor:
        # Zeros: what nobody sees has the weight 0, and 0 times what memory held before need not be 0.
        return torch.zeros(shape, dtype=self.dtype, device=self.device)

    def reserve(self, columns: int) -> None:
        """See to it that each slot has so many columns."""
        if columns <= self.room:
            return
        self.captures.clear()
        more = rounded(max(columns, self.room * 3 // 2)) - self.room
        self.kv = tuple(torch.cat([one, self._empty((*one.shape[:3], more, one.shape[4]))], 3) for one in self.kv)
        self.room += more
        wider = torch.full((*self.bias.shape[:3], more), HIDDEN, dtype=self.dtype, device=self.device)
        self.bias = torch.cat([self.bias, wider], 3)
        if self.windows is not None:
            self.place = torch.cat([self.place, self.place.new_zeros(self.count, more)], 1)

    # -- what slots hold -------------------------------------------------------------------------------------------

    def clear(self, slot: int, position: int) -> None:
        """An empty slot, whose next position is this one."""
        self.length[slot], self.position[slot] = 0, position
        self.bias[slot].fill_(HIDDEN)
        for state in self.states:
            state[slot].zero_()

    def begin(self, slot: int, states: States) -> None:
        """Let a slot go on from states [...], which are at the end of all that it holds."""
        for own, one in zip(self.states, states, strict=True):
            own[slot] = one

    def add(self, slot: int, kv: Packed, place: int, seen: Layers) -> None:
        """Columns that others wrote, by shape [n, H, C, D], from position `place` on, which some layers see."""
        first, last = self.length[slot], self.length[slot] + kv[0].shape[2]
        self.reserve(last)
        for own, one in zip(self.kv, kv, strict=True):
            own[:, slot, :, first:last] = one
        self.show(slot, first, last, seen)
        if self.windows is not None:
            self.place[slot, first:last] = torch.arange(place, place + last - first, device=self.device)
        self.length[slot] = last

    def show(self, slot: int, first: int, last: int, seen: Layers) -> None:
        """Let some layers (None: all) see some columns."""
        for low, high in ((0, self.bias.shape[1] - 1),) if seen is None else seen:
            self.bias[slot, low : high + 1, :, first:last] = 0

    def taken(self, slot: int, first: int, last: int) -> Packed:
        """A copy of some columns of a slot, by shape [n, H, C, D]."""
        return tuple(one[:, slot, :, first:last].clone() for one in self.kv)

    def remembered(self, slot: int) -> States:
        """A copy of a slot's states, [...] each."""
        return tuple(one[slot].clone() for one in self.states)

    def move(self, source: int, target: int) -> None:
        """Put what one slot holds into another."""
        width = self.length[source]
        for one in self.kv:
            one[:, target, :, :width] = one[:, source, :, :width]
        for one in self.states:
            one[target] = one[source]
        self.bias[target] = self.bias[source]
        if self.windows is not None:
            self.place[target] = self.place[source]
        self.length[target], self.position[target] = self.length[source], self.position[source]

    # -- passes ----------------------------------------------------------------------------------------------------

    def views(self, first: int, last: int, width: int) -> KeysValues:
        """Keys and values [n, H, width, D] of slots first..last, layer by layer."""
        return self.layout.layers([one[:, first:last, :, :width] for one in self.kv])

    def remembering(self, first: int, last: int) -> list[Any]:
        """Layers of a cache whose states are those of slots first..last, and written over."""
        return Recurrent(self.base.config, states=tuple(one[first:last] for one in self.states)).layers

    def read(self, first: int, inputs: Tensor, counts: Sequence[int]) -> Tensor:
        """Read a block, right-padded ids [n, Q] or embeddings [n, Q, d], of which each row has so many real columns,
        into the n slots from `first` on. Returns the final hidden states [n, Q, d]."""
        many, wide = inputs.shape[:2]
        last = first + many
        before = self.length[first:last]
        self.reserve(max(before) + wide)
        start = torch.tensor(before, device=self.device)
        offset = torch.arange(wide, device=self.device)
        place = torch.tensor(self.position[first:last], device=self.device)[:, None] + offset
        if self.states:
            hidden = self._gone_on(first, inputs, place, start[:, None] + offset, counts)
        else:
            hidden = self._in_place(first, inputs, place, start, offset)
        real = torch.tensor(list(counts), device=self.device)
        columns = torch.arange(self.room, device=self.device)
        new = (columns >= start[:, None]) & (columns < (start + real)[:, None])
        self.bias[first:last].masked_fill_(new[:, None, None], 0)
        if self.windows is not None:
            position = place[:, :1] - start[:, None] + columns
            self.place[first:last] = torch.where(new, position, self.place[first:last])
        for slot, count in zip(range(first, last), counts, strict=True):
            self.length[slot] += count
            self.position[slot] += count
        return hidden

    def _in_place(self, first: int, inputs: Tensor, place: Tensor, start: Tensor, offset: Tensor) -> Tensor:
        """A pass over keys and values alone. place: positions [n, Q]; start: the first new column of each slot [n];
        offset: of columns from there [Q]."""
        many, wide = place.shape
        last = first + many
        before = self.length[first:last]
        fresh = max(before) == 0 and wide > 1 and self.windows is None
        width = wide if fresh else min(rounded(max(before) + wide), self.room)
        column = start[:, None] + offset
        if min(before) == max(before):
            at: Any = before[0]
        else:
            at = torch.arange(many, device=self.device)[:, None].expand(-1, wide), column
        mask = None
        if not fresh:
            columns = torch.arange(width, device=self.device)
            own = (columns >= start[:, None])[:, None] & (columns <= column[..., None])
            mask = self.bias[first:last, ..., :width].masked_fill(own[:, None], 0)
            if self.windows is not None:
                here = self.place[first:last, :width].clone().scatter_(1, column, place)
                mask = self._near(mask, here, place)
        return self.base.run(inputs, place, mask, InPlace(self.views(first, last, width), at))

    def _gone_on(self, first: int, inputs: Tensor, place: Tensor, column: Tensor, counts: Sequence[int]) -> Tensor:
        """A pass of a model whose layers keep states, by a cache of its own (`recurrent.Reader`); what it leaves behind
        is put in its place. column: where each new one goes, long [n, Q]."""
        many, wide = place.shape
        last, width = first + many, max(self.length[first : first + many])
        cache = Recurrent(self.base.config)
        if width:
            states = tuple(one[first:last].clone() for one in self.states)
            cache = Recurrent(self.base.config, self.views(first, last, width), states, width)
        offset = torch.arange(wide, device=self.device)
        own = (offset <= offset[:, None]) & (offset < torch.tensor(list(counts), device=self.device)[:, None, None])
        past = (self.bias[first:last, ..., :width] == 0).expand(-1, -1, wide, -1)
        mask = torch.cat([past, own[:, None].expand(-1, past.shape[1], -1, -1)], 3)
        if self.windows is not None:
            mask = self._near(mask, torch.cat([self.place[first:last, :width], place], 1), place)
        hidden = self.base.run(inputs, place, mask, cache, counts)
        rows = torch.arange(first, last, device=self.device)[:, None]
        for kept, new in zip(self.kv, self.layout.pack(cache.columns(width)), strict=True):
            kept[:, rows, :, column] = new.permute(1, 3, 0, 2, 4)
        for state, end in zip(self.states, cache.states, strict=True):
            state[first:last] = end
        return hidden

    def _near(self, mask: Tensor, place: Tensor, new: Tensor) -> Tensor:
        """A mask [n, M, Q, W] less the columns (at place [n, W]) that are out of the windows of positions [n, Q]."""
        assert self.windows is not None
        far = (new[..., None] - place[:, None])[:, None] >= self.windows[:, None, None]
        return mask & ~far if mask.dtype == torch.bool else mask.masked_fill(far, HIDDEN)


class Steps:
    """Passes of one new column in each of the slots first..last, one behind the other. Nothing is asked of the device,
    shapes stay as they are for many columns, and only what changes is made anew: on a GPU a pass is recorded once and
    then replayed (`capture.Captures`)."""

    def __init__(self, slots: Slots, first: int, last: int, expected: int, rows: Hashable = None) -> None:
        """expected: how many passes there may be; rows: under which adapters the rows run, where passes differ in
        that."""
        self.slots, self.first, self.last = slots, first, last
        self.expected, self.rows = expected, rows
        device = slots.device
        length = slots.length[first:last]
        self._same = min(length) == max(length)
        self._column = torch.tensor(length, device=device)[:, None]
        self._place = torch.tensor(slots.position[first:last], device=device)[:, None]
        self._cache = InPlace((), 0, slots.remembering(first, last) if slots.states else ())
        self._width = 0
        self._kv: Packed | None = None

    def __call__(self, inputs: Tensor) -> Tensor:
        """Read ids [n, 1] or embeddings [n, 1, d]; the final hidden states [n, 1, d]."""
        slots, first, last = self.slots, self.first, self.last
        most = max(slots.length[first:last]) + 1
        if most > self._width or self._kv is not slots.kv:
            slots.reserve(most)
            self._kv = slots.kv
            self._width = min(rounded(most), slots.room)
            self._cache.views = slots.views(first, last, self._width)
            self._bias = slots.bias[first:last]
            self._mask = self._bias[..., : self._width]
            self._written = slots.place[first:last]
        left = min(self.expected, self._width - most + 1)
        self.expected -= 1
        key = (first, last, self._width, self._same, self.rows)
        given = inputs, self._column, self._place
        hidden, self._column, self._place = slots.captures.run(self._pass, given, key, left)
        for slot in range(first, last):
            slots.length[slot] += 1
            slots.position[slot] += 1
        return hidden

    def _pass(self, inputs: Tensor, column: Tensor, place: Tensor) -> Tensor:
        """One pass. column and place, long [n, 1], are where it writes; they move on by one."""
        slots, mask = self.slots, self._mask
        index = column[:, None, None].expand(-1, self._bias.shape[1], -1, -1)
        self._bias.scatter_(3, index, 0)
        if slots.windows is not None:
            self._written.scatter_(1, column, place)
            mask = slots._near(mask, self._written[:, : self._width], place)
        self._cache.at = column[0] if self._same else (slots.rows[: self.last - self.first], column)
        hidden = slots.base.run(inputs, place, None if slots.layout.blind else mask, self._cache)
        column += 1
        place += 1
        return hidden
