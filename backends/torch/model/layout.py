"""How the keys and values of all layers lie in few tensors: those of one shape in one.

In most models every layer's are of one shape. They differ where values are narrower than keys (deepseek_v2), where some
layers have wider heads (gemma4), and in hybrids, of which layers without attention have keys and values of no heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from masc.backends.torch.model.segments import KeysValues

Packed = tuple[Tensor, ...]
"""Keys and values of all layers of a model, a tensor for each shape."""


@dataclass(frozen=True)
class Layout:
    """shapes: heads and their width [H, D], of each tensor; counts: how many keys or values are in it; places: in which
    tensor, and where in it, the keys of each layer are, then the values of each."""

    shapes: tuple[tuple[int, int], ...]
    counts: tuple[int, ...]
    places: tuple[tuple[int, int], ...]

    @staticmethod
    def of(layers: KeysValues) -> Layout:
        """That of a cache."""
        shapes = [(one.shape[1], one.shape[3]) for one in _in_order(layers)]
        kinds = tuple(dict.fromkeys(shapes))
        places = tuple((kinds.index(shape), shapes[:i].count(shape)) for i, shape in enumerate(shapes))
        return Layout(kinds, tuple(shapes.count(shape) for shape in kinds), places)

    @property
    def blind(self) -> bool:
        """Whether no layer has attention."""
        return not any(heads for heads, _ in self.shapes)

    def pack(self, layers: KeysValues) -> Packed:
        """Keys and values [..., H, C, D] by layer, as tensors [n, ..., H, C, D]."""
        found: list[list[Tensor]] = [[] for _ in self.shapes]
        for (which, _), one in zip(self.places, _in_order(layers), strict=True):
            found[which].append(one)
        return tuple(torch.stack(several) for several in found)

    def layers(self, packed: Sequence[Tensor]) -> KeysValues:
        """Keys and values by layer, views of tensors [n, ...]."""
        apart = [one.unbind(0) for one in packed]
        found = [apart[which][at] for which, at in self.places]
        half = len(found) // 2
        return tuple(zip(found[:half], found[half:], strict=True))


def _in_order(layers: KeysValues) -> list[Tensor]:
    """The keys of each layer, then the values of each."""
    return [one for several in zip(*layers, strict=True) for one in several]
