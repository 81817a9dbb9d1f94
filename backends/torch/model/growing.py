"""Keys and values of an activation that thinks, each written in its place. What latent steps see grows by a column a
step: copies of all of it, kept for the backward pass step by step, would be most of what an activation keeps.

No column changes once it is written, and each pass is handed the columns that are there by then as a tensor of its own
over the same memory, which autograd may keep. Their gradients are added up in one place as well. Each writing has the
keys of the one before as an input, so that autograd comes to it when all later ones, and their readers, are through.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from masc.backends.torch.model.segments import KeysValues


def growing(past: KeysValues, room: int) -> DynamicCache:
    """A cache over keys and values [B, H, T, D] of a past (none: it is empty), with room for so many columns, theirs
    included."""
    cache = DynamicCache()
    cache.layer_class_to_replicate = partial(_Layer, room)  # type: ignore[assignment]
    for layer, (keys, values) in enumerate(past):
        cache.update(keys, values, layer)
    return cache


class _Layer(DynamicLayer):
    """Keys and values of one layer: `keys` and `values` are what has been written, [B, H, columns, D]."""

    def __init__(self, room: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._room = room

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        self._memory = _Memory(self._room, key_states, value_states)
        self.is_initialized = True

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        before = self.keys if self.is_initialized else None
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.keys, self.values = _Write.apply(before, key_states, value_states, self._memory)  # type: ignore[no-untyped-call]
        return self.keys, self.values


class _Memory:
    """Of keys and values, [B, H, room, D] each. shown: the same memory with a count of changes of its own (`data`), so
    that what is written by way of `whole` does not make kept parts of it count as changed. columns: from some column
    on, each by itself."""

    def __init__(self, room: int, *like: Tensor) -> None:
        self.whole = [each.new_empty(*each.shape[:2], room, each.shape[3]) for each in like]
        self.shown = [each.data for each in self.whole]
        self.gathered = _Gathered()
        self.columns: tuple[int, list[tuple[Tensor, ...]]] | None = None

    def write(self, first: int, *new: Tensor) -> list[Tensor]:
        """Keys and values of columns from `first` on; returns all that are there by then."""
        last = first + new[0].shape[2]
        if last - first == 1 and self.columns is None:
            sizes = [first, *[1] * (self.whole[0].shape[2] - first)]
            self.columns = first, [each.split(sizes, 2)[1:] for each in self.whole]
        for i, (whole, given) in enumerate(zip(self.whole, new, strict=True)):
            if last - first == 1 and self.columns is not None:
                self.columns[1][i][first - self.columns[0]].copy_(given)
            else:
                whole[:, :, first:last] = given
        return [each[:, :, :last] for each in self.shown]


class _Write(torch.autograd.Function):
    """New keys and values [B, H, n, D] behind those that are there, to all that is there by then. before: the keys that
    are (None: there are none), by which torch knows what was written before; nothing is read of them."""

    @staticmethod
    def forward(
        ctx: Any, before: Tensor | None, keys: Tensor, values: Tensor, memory: _Memory
    ) -> tuple[Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        # Not the memory: where everything is computed again, that of the first time must not be kept.
        ctx.first, ctx.gathered = 0 if before is None else before.shape[2], memory.gathered
        there, beside = memory.write(ctx.first, keys, values)
        return there, beside

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        return None, *ctx.gathered.taken(ctx.first, gradients), None


class _Gathered:
    """The gradients of a layer's keys and values, as far as a backward pass has come."""

    def __init__(self) -> None:
        self._pass = -1
        self._sums: list[Tensor | None] = [None, None]

    def taken(self, first: int, gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
        """With gradients [B, H, n, D] of the columns that are there after a writing, the sums for those that it wrote,
        from `first` on; they are forgotten here. Later writings have left sums of just these n columns."""
        current = torch._C._current_graph_task_id()
        if current != self._pass:
            self._pass, self._sums = current, [None, None]
        found: list[Tensor | None] = [None, None]
        for i, new in enumerate(gradients):
            known = self._sums[i]
            if new is not None:  # a copy: others may have been given the same one
                known = new.clone() if known is None else known.add_(new)
            if known is not None:
                rest, found[i] = known.split([first, known.shape[2] - first], 2)
                self._sums[i] = rest if first else None
        return found
