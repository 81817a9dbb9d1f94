"""Adapters without overhead, where no gradient is needed: each projection with its adapter folded into a copy of its
weights.

A copy is W + s B A (with DoRA m / n times that; docs/semantics.md, section 1), computed in float32 and rounded once to
the dtype of W.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar

import psutil
import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor

from masc.backends.torch.model.applying import Projections
from masc.backends.torch.model.lora import Group, Output, bias_of, is_plain
from masc.backends.torch.model.products import linear, packed, packs

T = TypeVar("T")
Groups = Sequence[Sequence[LoraLayer]]
SHARE = 0.5
"""Of the memory that is free, so much may hold copies of one model's projections."""


@dataclass(frozen=True)
class _Copy:
    """The projections of one adapter. stamp: of what they were made; numbers: what `_numbers` said of its weights."""

    stamp: tuple[Any, ...]
    numbers: tuple[float, ...]
    projections: Projections
    size: int


class Folded:
    """Folded copies of one base model's projections, by adapter. They are kept from call to call, as long as the
    weights are what they were and there is memory for them: those that were not used for longest go first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[str | None, _Copy] = OrderedDict()
        """None: without an adapter."""
        self._small: dict[tuple[str, ...], tuple[Any, Any]] = {}
        """What takes little memory, by adapters: of which weights it was made, and it."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Folded:
        return Folded()

    def of(self, groups: Groups, adapter: str, beside: Collection[str | None] = ()) -> Projections | None:
        """What computes every layer with an adapter. groups: the layers, those that read the same input together;
        beside: the adapters whose copies are needed at the same time. None where there is no memory for one more copy,
        or a layer's weights cannot be copied (quantised ones)."""
        own = _some(groups, lambda layer: adapter in layer.lora_A)
        if not all(map(is_plain, chain(*own))):
            return None
        return self._copied(list(chain(*own)), adapter, beside, lambda: bare(chain(*groups)) | _folded(own, adapter))

    def bare(self, groups: Groups, beside: Collection[str | None] = ()) -> Projections:
        """What computes every layer without an adapter: copies where those are faster (`products.packs`) and there is
        memory for them. groups, beside: as above."""
        own = _some(groups, lambda layer: is_plain(layer) and packs(_weight(layer)))
        layers = list(chain(*own))
        found = self._copied(layers, None, beside, lambda: bare(chain(*groups)) | _folded(own, None)) if own else None
        return found or self.same(layers, (), lambda: bare(chain(*groups)))

    def _copied(
        self,
        own: Sequence[LoraLayer],
        adapter: str | None,
        beside: Collection[str | None],
        make: Callable[[], Projections],
    ) -> Projections | None:
        """Copies of layers with an adapter (None: without one), made where there are none of the weights as they are.
        None where there is no memory for them."""
        device = _weight(own[0]).device
        with self._lock, torch.inference_mode(False), torch.no_grad(), torch.autocast(device.type, enabled=False):
            stamp, numbers = _stamp(own, adapter), _numbers(own, adapter)
            found = self._kept.get(adapter)
            if found is None or (found.stamp, found.numbers) != (stamp, numbers):
                self._drop(adapter)
                size = sum(_bytes(layer) for layer in own)
                if not self._room(size, beside, device):
                    return None
                found = self._kept[adapter] = _Copy(stamp, numbers, make(), size)
            self._kept.move_to_end(adapter)
            return found.projections

    def same(
        self, layers: Sequence[LoraLayer], adapters: Sequence[str], make: Callable[[], T], below: object = None
    ) -> T:
        """What applies adapters beside the weights, made anew only where these have changed: what was recorded with it
        serves again. below: what it is made of beside them, and holds."""
        named = [(name, [layer for layer in layers if name in layer.lora_A]) for name in adapters]
        with self._lock, torch.inference_mode(False), torch.no_grad():  # who asks next may be in another mode
            made_of: list[Any] = [id(below)]
            for name, own in named:
                plain = all(map(is_plain, own))
                made_of += [(_stamp(own, name, plain), _numbers(own, name, plain))] if own else []
            key = tuple(adapters)
            known = self._small.get(key)
            if known is None or known[0] != made_of or getattr(known[1], "full", False):
                known = self._small[key] = made_of, make()
            found: T = known[1]
            return found

    def clear(self) -> None:
        """Give the memory of all copies back."""
        with self._lock:
            self._kept.clear()
            self._small.clear()

    def _room(self, size: int, beside: Collection[str | None], device: torch.device) -> bool:
        """Make room for a copy of so many bytes, of those that are not needed at the same time."""
        while size > SHARE * free_memory(device):
            others = [name for name in self._kept if name not in beside]
            if not others:
                return False
            self._drop(others[0])
        return True

    def _drop(self, adapter: str | None) -> None:
        """Forget a copy. What applies adapters side by side is made of that without one."""
        if self._kept.pop(adapter, None) is not None and adapter is None:
            self._small.clear()


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a device, as it says."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def _some(groups: Groups, which: Callable[[LoraLayer], bool]) -> Groups:
    found = ([layer for layer in layers if which(layer)] for layers in groups)
    return [layers for layers in found if layers]


def bare(layers: Iterable[LoraLayer]) -> dict[Any, Any]:
    """What computes every layer without an adapter."""
    return {layer: linear(layer.get_base_layer()) for layer in layers}


def _folded(groups: Groups, adapter: str | None) -> dict[Any, Any]:
    """A copy of the weights of each group, an adapter folded in (None: none)."""
    found: dict[Any, Any] = {}
    for layers in groups:
        copied = Copied(layers, [_with(layer, adapter) for layer in layers])
        found |= {layer: Output(copied, at) for at, layer in enumerate(layers)}
    return found


def _with(layer: LoraLayer, adapter: str | None) -> Tensor:
    """The weight of a layer, an adapter folded in."""
    own = _weight(layer)
    if adapter is None:
        return own
    halves: tuple[Any, Any] = layer.lora_A[adapter], layer.lora_B[adapter]
    wide = torch.promote_types(own.dtype, torch.float32)
    half, other = (part.weight.to(wide) for part in halves)
    weight = torch.addmm(own.to(wide), other, half, alpha=layer.scaling[adapter])
    if adapter in layer.lora_magnitude_vector:
        magnitude: Any = layer.lora_magnitude_vector[adapter].weight
        weight *= (magnitude / torch.linalg.norm(weight, dim=1))[:, None]
    return weight.to(own.dtype)


class Copied(Group):
    """A copy of the weights of projections that read the same input, with or without an adapter folded in, one below
    the other. Not for gradients."""

    def __init__(self, layers: Sequence[LoraLayer], weights: Sequence[Tensor]) -> None:
        self.layers, self.sizes = tuple(layers), [len(weight) for weight in weights]
        biases = [base.bias for base in (layer.get_base_layer() for layer in self.layers)]
        self._computed = packed(torch.cat(list(weights)), bias_of(weights, biases))
        self._made: tuple[Tensor, list[Tensor | None]] | None = None

    def forward(self, x: Tensor, onto: Tensor | None = None) -> tuple[Tensor, Tensor]:
        output = self._computed(x, onto)
        return output, output


def _weight(layer: LoraLayer) -> Tensor:
    """The frozen one."""
    own: Any = layer.get_base_layer()
    weight: Tensor = own.weight
    return weight


def _bytes(layer: LoraLayer) -> int:
    return _weight(layer).numel() * _weight(layer).element_size()


def _weights(layers: Sequence[LoraLayer], adapter: str | None) -> list[Tensor]:
    """The adapter's weights, layer by layer."""
    parts: list[Any] = []
    if adapter is None:
        return parts
    for layer in layers:
        parts += [layer.lora_A[adapter].weight, layer.lora_B[adapter].weight]
        if adapter in layer.lora_magnitude_vector:
            parts.append(layer.lora_magnitude_vector[adapter].weight)
    return parts


def _stamp(layers: Sequence[LoraLayer], adapter: str | None, frozen: bool = True) -> tuple[Any, ...]:
    """Which tensors they are, how often each has been changed in place, and how strong the adapter is. frozen: those of
    the base, too."""
    tensors = [*_weights(layers, adapter), *(_held(layers) if frozen else ())]
    told = [(one.data_ptr(), 0 if one.is_inference() else one._version, one.dtype, one.device) for one in tensors]
    return (*told, *(layer.scaling[adapter] for layer in layers if adapter is not None))


def _held(layers: Sequence[LoraLayer]) -> list[Tensor]:
    """The frozen weights and biases."""
    bases: list[Any] = [layer.get_base_layer() for layer in layers]
    return [one for base in bases for one in (base.weight, base.bias) if one is not None]


def _numbers(layers: Sequence[LoraLayer], adapter: str | None, frozen: bool = True) -> tuple[float, ...]:
    """Norm and sum of each weight: what is changed through `.data` leaves no other trace. frozen: of each that is, of
    the first row, for they are large."""
    weights = [weight.detach() for weight in _weights(layers, adapter)]
    dtype = weights[0].dtype if weights else torch.float32
    weights += [one.detach()[:1].to(dtype) for one in (_held(layers) if frozen else ())]
    if not weights:
        return ()
    sums = torch.stack([weight.sum() for weight in weights])
    return tuple(torch.cat([torch.stack(torch._foreach_norm(weights)), sums]).tolist())
