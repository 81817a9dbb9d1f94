"""The gradients of an adapter's matrices, gathered over all passes of an activation and handed on once.

Each latent step would add a small product to each of them. What narrow passes contribute is kept as rows and multiplied
at the end, wide passes are added at once, in the adapter's own float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

WIDE = 64
"""A pass over so many positions adds its part to the gradients at once: kept, it would cost memory."""


@dataclass(frozen=True, eq=False)
class Matrices:
    """Of projections that read the same input: A [r, in] and B [out, r] of each, and s."""

    pairs: Sequence[tuple[Tensor, Tensor]]
    scale: float


@dataclass(frozen=True, eq=False)
class Rows:
    """Of one backward pass through such projections: their input [N, in], A x of all, [N, n r], the gradient of that
    without s, and the gradient of their outputs side by side, [N, sum of out]. given: which outputs have one; that of
    others is 0."""

    x: Tensor
    low: Tensor
    small: Tensor
    outputs: Tensor
    given: Sequence[bool]


class Adapter:
    """An adapter as one activation applies it, and its gradients as far as backward passes that are under way have
    come."""

    def __init__(self, groups: Sequence[Matrices]) -> None:
        self._groups = groups
        self._token: Tensor | None = None
        self._sums: dict[int, dict[int, _Sums]] = {}
        """By backward pass, for one that is asked for other gradients never takes what it has added; then by group."""

    @property
    def token(self) -> Tensor:
        """An empty tensor that stands for the adapter's parameters in the gradient graph. Each pass takes it as an
        input, so that autograd asks for their gradients when all passes are through."""
        if self._token is None:
            halves = [half for group in self._groups for pair in group.pairs for half in pair]
            self._token = _Parameters.apply(self, *halves)  # type: ignore[no-untyped-call]
        return self._token

    def add(self, group: int, rows: Rows) -> None:
        own = self._sums.setdefault(torch._C._current_graph_task_id(), {})
        if group not in own:
            own[group] = _Sums(self._groups[group].pairs)
        own[group].add(rows)

    def taken(self) -> list[Tensor | None]:
        """The gradients of A and B of each projection in turn, None where nothing was added."""
        sums = self._sums.pop(torch._C._current_graph_task_id(), {})
        self._sums.clear()
        each = [sums[i].total() if i in sums else [None] * 2 * len(own.pairs) for i, own in enumerate(self._groups)]
        scaled = [
            (one, own.scale) for own, found in zip(self._groups, each, strict=True) for one in found if one is not None
        ]
        if scaled:
            torch._foreach_mul_([one for one, _ in scaled], [scale for _, scale in scaled])
        return [one for found in each for one in found]


class _Sums:
    """The gradients of a group's matrices so far, without s: of A of all of them, [n r, in], and of B of each."""

    def __init__(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
        self._a: Tensor | None = None
        self._b: list[Tensor | None] = [None] * len(pairs)
        self._sizes = [len(b) for _, b in pairs]
        self._dtype = pairs[0][0].dtype
        self._rows: list[Rows] = []

    def add(self, rows: Rows) -> None:
        self._rows.append(rows)
        if len(rows.low) >= WIDE:
            self._close()

    def total(self) -> list[Tensor | None]:
        self._close()
        assert self._a is not None
        a = self._a.tensor_split(len(self._b))
        return [half for i, b in enumerate(self._b) for half in (None if b is None else a[i], b)]

    def _close(self) -> None:
        """Add what is kept, as one product for each matrix."""
        rows, self._rows = self._rows, []
        if not rows:
            return
        small, low = _joined([one.small for one in rows]), _joined([one.low for one in rows])
        x, outputs = _joined([one.x for one in rows]), _joined([one.outputs for one in rows]).to(small.dtype)
        self._a = _plus(self._a, (small.t() @ x.to(small.dtype)).to(self._dtype))
        pairs = zip(outputs.split(self._sizes, 1), low.tensor_split(len(self._b), 1), strict=True)
        for i, (output, own) in enumerate(pairs):
            if any(one.given[i] for one in rows):
                self._b[i] = _plus(self._b[i], (output.t() @ own).to(self._dtype))


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def _plus(known: Tensor | None, new: Tensor) -> Tensor:
    return new if known is None else known.add_(new)


class _Parameters(torch.autograd.Function):
    """All matrices of an adapter to its token; back, what has been gathered."""

    @staticmethod
    def forward(ctx: Any, adapter: Adapter, *halves: Tensor) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.adapter = adapter
        return halves[0].new_empty(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *_: Tensor | None) -> tuple[Tensor | None, ...]:
        return None, *ctx.adapter.taken()
