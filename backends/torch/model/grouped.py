"""The adapters of several agents side by side, each for rows of its own in one batch, where no gradient is needed."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor

from masc.backends.torch.model.applying import Projections
from masc.backends.torch.model.lora import Group, Output
from masc.backends.torch.model.products import packed

ARRANGEMENTS = 500
"""Of rows under several adapters, which are kept."""
_Ranks = tuple[tuple[str, int], ...]
"""The adapters of a group of layers, layer by layer, and how many columns each has in `Grouped`."""
_Chosen = Mapping[_Ranks, Tensor]


class Grouped:
    """For the layers that read the same input all A's one below the other, [R, in], and all B's side by side, scaled,
    each layer's in rows of its own, [sum of out, R]; y = W x + ((x A') * sel) B', where sel, [n, 1, R], is 1 at the
    columns of a row's own adapter. In the dtype of the base; not for DoRA, which changes W x as well. Layers read
    positions row by row, [n, T, in], or as a mixture's do (routers, shared experts) all in one row, [n T, in]."""

    def __init__(
        self, groups: Iterable[Sequence[LoraLayer]], adapters: Sequence[str], dtype: torch.dtype, base: Projections
    ) -> None:
        """groups: the layers, those that read the same input together; base: what computes each without an adapter."""
        self._dtype = dtype
        self._now = threading.local()
        """rows: by ranks, which columns are a row's own, for the passes of this thread."""
        self._kept: dict[tuple[str | None, ...], _Chosen] = {}
        self.below = base
        self.projections: dict[Any, Any] = dict(base)
        ranks_of: list[_Ranks] = []
        with torch.inference_mode(False), torch.no_grad():
            for layers in groups:
                several = _Several(layers, adapters, dtype, base, self._now)
                if several.ranks:
                    ranks_of.append(several.ranks)
                    self.projections |= {layer: Output(several, at) for at, layer in enumerate(layers)}
        self._ranks = list(dict.fromkeys(ranks_of))

    @property
    def full(self) -> bool:
        """Whether it knows so many arrangements of rows that a new one is better (recorded passes hold their tensors,
        so that none can be forgotten)."""
        return len(self._kept) > ARRANGEMENTS

    def choose(self, rows: Sequence[str | None], device: torch.device) -> None:
        """Which adapter each row of the passes that follow has (None: none). The same tensors for the same rows."""
        known = self._kept.get(key := tuple(rows))
        if known is None:
            made: dict[_Ranks, Tensor] = {}
            for ranks in self._ranks:
                own = {name: [float(name == other) for other, size in ranks for _ in range(size)] for name, _ in ranks}
                none = [0.0] * sum(size for _, size in ranks)
                chosen = [none if row is None else own.get(row, none) for row in rows]
                made[ranks] = torch.tensor(chosen, dtype=self._dtype, device=device)[:, None]
            known = self._kept.setdefault(key, made)
        self._now.rows = known


class _Several(Group):
    """The projections of one module that read the same input, under the adapters of `Grouped`. Not for gradients.
    ranks: empty where no adapter sits on any of them."""

    def __init__(
        self,
        layers: Sequence[Any],
        adapters: Sequence[str],
        dtype: torch.dtype,
        base: Projections,
        now: threading.local,
    ) -> None:
        pairs = [(i, name) for i, layer in enumerate(layers) for name in adapters if name in layer.lora_A]
        halves: list[Tensor] = [layers[i].lora_A[name].weight for i, name in pairs]
        self.ranks: _Ranks = tuple((name, len(half)) for (_, name), half in zip(pairs, halves, strict=True))
        if not pairs:
            return
        self.layers, self.sizes = tuple(layers), [layer.out_features for layer in layers]
        self._made, self._now = None, now
        self._below: list[Any] = [base[layer] for layer in layers]
        down = torch.cat(halves)
        up = down.new_zeros(sum(self.sizes), len(down))
        columns = up.split([len(half) for half in halves], 1)
        for (i, name), own in zip(pairs, columns, strict=True):
            own.split(self.sizes)[i].copy_(layers[i].lora_B[name].weight * layers[i].scaling[name])
        self._down, self._up = packed(down.to(dtype)), packed(up.to(dtype))

    def forward(self, x: Tensor, onto: Tensor | None = None) -> tuple[Tensor, Tensor]:
        chosen = self._now.rows[self.ranks]
        low = self._down(x, None).unflatten(0, (len(chosen), -1)) * chosen.to(x.device)
        output = self._up(low.flatten(0, 1), self._without(x))
        return output if onto is None else output.add_(onto), low

    def _without(self, x: Tensor) -> Tensor:
        """The outputs without an adapter, [N, sum of out]."""
        first = self._below[0]
        if isinstance(first, Output) and first.group.layers == self.layers:
            return first.group.forward(x)[0]
        each = [below(x) for below in self._below]
        return each[0] if len(each) == 1 else torch.cat(each, 1)
