"""Models whose layers keep states beside, or instead of, keys and values: their cache, and passes over it.

A state is what a layer remembers of all that it has read (the last inputs of a convolution, the running sum of a linear
attention). Padding would change it, so rows that differ in length are padded in front, where nothing has been read yet
and that is seen to leave no trace; else they are read apart and put together afterwards. In a segment, a layer without
attention has keys and values of no heads.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from inspect import signature
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from torch.overrides import TorchFunctionMode
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer
from transformers.cache_utils import LinearAttentionAndFullAttentionLayer as Both
from transformers.cache_utils import LinearAttentionAndSlidingWindowAttentionLayer as BothLimited
from transformers.cache_utils import LinearAttentionCacheLayerMixin as Stateful

from masc.backends.torch.model.applying import using
from masc.backends.torch.model.segments import KeysValues, States

Masks = Tensor | Mapping[str, Tensor] | None
Pass = Callable[[Tensor, Tensor, Masks, DynamicCache], Tensor]
"""Inputs [B, Q] or [B, Q, d], positions [B, Q], a mask (or one by kind of layer) and a cache, to final hidden states
[B, Q, d]."""


def why_recurrent(config: Any) -> str | None:
    """Why what a pass of a model leaves behind is more than keys and values; None: it is these alone."""
    layers = [type(layer) for layer in DynamicCache(config=config).layers]
    while layers and layers[-1].__name__ == "DummyLayer":  # the last layers of gemma4 read what others keep
        layers.pop()
    kinds = set(layers)
    if other := sorted(kind.__name__ for kind in kinds - {DynamicLayer, DynamicSlidingWindowLayer}):
        return f"its layers keep more than keys and values ({', '.join(other)})"
    return None


class Recurrent(DynamicCache):
    """A cache over keys and values and states of `read` columns (a new one: of none)."""

    def __init__(self, config: Any, layers: KeysValues = (), states: States = (), read: int = 0) -> None:
        super().__init__(config=config)
        self.config = config
        self.layers: list[Any] = [_unlimited(layer) for layer in self.layers]
        self.read = read
        for layer, pair in zip(self.layers, layers, strict=False):
            if isinstance(layer, DynamicLayer):
                layer.update(*pair)
        for (layer, place), conv, running in zip(self._places, states[::2], states[1::2], strict=False):
            _remember(layer, place, conv, running)

    @property
    def _places(self) -> list[tuple[Any, int]]:
        """Each layer that keeps states, once for each of its pairs of a convolution's and a running one."""
        stateful = [layer for layer in self.layers if isinstance(layer, Stateful)]
        return [(layer, place) for layer in stateful for place in range(layer.number_of_states)]

    @property
    def blind(self) -> bool:
        """Whether no layer has attention."""
        return not any(isinstance(layer, DynamicLayer) for layer in self.layers)

    @property
    def states(self) -> States:
        """What layers remember: by place a convolution's state and a running one, each [B, ...]; [B, 0] where there is
        none."""
        pairs = [(layer.conv_states[place], layer.recurrent_states[place]) for layer, place in self._places]
        found = [state for pair in pairs for state in pair]
        like = next((state for state in found if state is not None), None)
        if like is None:
            return ()
        return tuple(like.new_zeros(like.shape[0], 0) if state is None else state for state in found)

    def columns(self, first: int) -> KeysValues:
        """Keys and values from a column on, for every layer."""
        held = [(getattr(layer, "keys", None), getattr(layer, "values", None)) for layer in self.layers]
        like = next(one for one in (*self.states, *(keys for keys, _ in held)) if one is not None and one.numel())
        none = like.new_zeros(like.shape[0], 0, self.read - first, 0)
        return tuple((none, none) if k is None or v is None else (k[:, :, first:], v[:, :, first:]) for k, v in held)

    def of(self, rows: Tensor) -> Recurrent:
        """A cache of some rows, long [n]."""
        layers = tuple((keys[rows], values[rows]) for keys, values in self.columns(0)) if self.read else ()
        return Recurrent(self.config, layers, tuple(state[rows] for state in self.states), self.read)

    def take(self, parts: Sequence[Recurrent], order: Tensor, read: int) -> None:
        """Become what caches of some rows each are side by side, in an order, long [B]. Columns that a part does not
        have are put behind its own, for nobody to see."""
        pairs = zip(*(part.columns(0) for part in parts), strict=True)
        layers = tuple(
            (_side_by_side([keys for keys, _ in layer], order, read), _side_by_side([v for _, v in layer], order, read))
            for layer in pairs
        )
        states = tuple(torch.cat(each)[order] for each in zip(*(part.states for part in parts), strict=True))
        vars(self).update(vars(Recurrent(self.config, layers, states, read)))


def _side_by_side(parts: Sequence[Tensor], order: Tensor, width: int) -> Tensor:
    """Keys or values of some rows each, [n, H, C, D], as those of all, [B, H, width, D]."""
    return torch.cat([pad(part, (0, 0, 0, width - part.shape[2])) for part in parts])[order]


def _unlimited(layer: Any) -> Any:
    """A layer of a cache that throws nothing away behind a window: the mask hides it already."""
    if isinstance(layer, BothLimited):
        return Both(number_of_states=layer.number_of_states)
    return DynamicLayer() if isinstance(layer, DynamicSlidingWindowLayer) else layer


def _remember(layer: Any, place: int, conv: Tensor, running: Tensor) -> None:
    """Give a layer states."""
    if conv.numel():
        layer.conv_states[place], layer.conv_kernel_size[place] = conv, conv.shape[-1]
        layer.is_conv_states_initialized[place] = layer.has_previous_state[place] = True
        layer.dtype, layer.device = conv.dtype, conv.device
    if running.numel():
        layer.recurrent_states[place] = running
        layer.is_recurrent_states_initialized[place] = True


class Reader:
    """Passes of a recurrent model, each made by `run`."""

    def __init__(self, run: Pass, config: Any) -> None:
        self.run, self.config = run, config

    def read(
        self,
        inputs: Tensor,
        positions: Tensor,
        mask: Tensor | None,
        cache: Recurrent,
        lengths: Sequence[int] | None = None,
    ) -> Tensor:
        """One pass; hidden states [B, Q, d], whatever they are behind what a row reads. lengths: how many columns each
        row reads (None: all)."""
        width = inputs.shape[1]
        if lengths is not None and any(length != width for length in lengths):
            if cache.read == 0 and mask is not None and self.pads(inputs.device):
                return self._padded(inputs, positions, mask, cache, lengths)
            return self._apart(inputs, positions, mask, cache, lengths)
        if cache.read and width > 1 and not self.goes_on(inputs.device):
            columns = [slice(i, i + 1) for i in range(width)]
            read = [
                self.read(inputs[:, at], positions[:, at], _until(mask, at.start, at.stop, width), cache)
                for at in columns
            ]
            return torch.cat(read, 1)
        with _Renewed(cache):
            hidden = self.run(inputs, positions, None if cache.blind else mask, cache)
        cache.read += width
        return hidden

    def _padded(
        self, inputs: Tensor, positions: Tensor, mask: Tensor, cache: Recurrent, lengths: Sequence[int]
    ) -> Tensor:
        """All rows at once, with what is behind a row put before it, where no state is yet."""
        column = torch.arange(inputs.shape[1], device=inputs.device)
        lack = inputs.shape[1] - torch.tensor(list(lengths), device=inputs.device)[:, None]
        there, back = (column - lack) % len(column), (column + lack) % len(column)
        rows = torch.arange(len(lengths), device=inputs.device)[:, None]
        seen = mask[rows[..., None], :, there[:, :, None], there[:, None]].movedim(3, 1)
        masks = _by_kind(seen, column >= lack)
        hidden = self.run(inputs[rows, there], positions[rows, there], masks, cache)
        cache.read = len(column)
        for layer in cache.layers:
            if isinstance(layer, DynamicLayer):
                for name in ("keys", "values"):
                    setattr(layer, name, getattr(layer, name).transpose(1, 2)[rows, back].transpose(1, 2))
        return hidden[rows, back]

    def _apart(
        self, inputs: Tensor, positions: Tensor, mask: Tensor | None, cache: Recurrent, lengths: Sequence[int]
    ) -> Tensor:
        """Rows of one length at a time."""
        width, last = inputs.shape[1], cache.read + inputs.shape[1]
        groups = {length: [i for i, one in enumerate(lengths) if one == length] for length in sorted({*lengths})[::-1]}
        parts, states = [], list[Tensor]()
        for length, several in groups.items():
            rows = torch.tensor(several, device=inputs.device)
            parts.append(part := cache.of(rows))
            if length:
                seen = None if mask is None else _until(mask[rows], 0, length, width)
                found = self.read(inputs[rows, :length], positions[rows, :length], seen, part)
                states.append(pad(found, (0, 0, 0, width - length)))
            else:  # the longest have gone before
                states.append(states[0].new_zeros(len(several), *states[0].shape[1:]))
        order = torch.tensor([i for several in groups.values() for i in several], device=inputs.device).argsort()
        cache.take(parts, order, last)
        return torch.cat(states)[order]

    # -- what is found out by trying ---------------------------------------------------------------------------------

    def goes_on(self, device: torch.device) -> bool:
        """Whether a pass of several columns goes on from the states of what was read before; else they are read one by
        one."""
        if (known := vars(self).get("_goes_on")) is None:
            with torch.inference_mode(False), torch.no_grad(), using(None):
                known = self._goes_on = self._tried_to_go_on(torch.arange(1, 10, device=device)[None])
        return bool(known)

    def _tried_to_go_on(self, ids: Tensor) -> bool:
        place, half = torch.arange(ids.shape[1], device=ids.device)[None], ids.shape[1] // 2
        whole, cache = self.run(ids, place, None, Recurrent(self.config)), Recurrent(self.config)
        causal = torch.ones(*ids.shape, ids.shape[1], dtype=torch.bool, device=ids.device).tril()[None]
        self.run(ids[:, :half], place[:, :half], None, cache)
        rest = self.run(ids[:, half:], place[:, half:], None if cache.blind else causal[:, :, half:], cache)
        return bool((rest - whole[:, half:]).abs().max() <= 1e-2 * whole.abs().max())

    def pads(self, device: torch.device) -> bool:
        """Whether masked columns in front of all others leave no trace: behind them alone states are zeros, to the bit,
        as a new cache's are taken to be."""
        if (known := vars(self).get("_pads")) is None:
            with torch.inference_mode(False), torch.no_grad(), using(None):
                known = self._pads = self._tried_to_pad(torch.arange(1, 10, device=device)[None])
        return bool(known)

    def _tried_to_pad(self, ids: Tensor) -> bool:
        cache, itself = Recurrent(self.config), torch.eye(ids.shape[1], dtype=torch.bool, device=ids.device)[None, None]
        try:
            self.run(ids, ids, _by_kind(itself, torch.zeros_like(ids, dtype=torch.bool)), cache)
        except Exception:  # whatever a decoder has against masks by kind of layer
            return False
        return not any(bool(state.any()) for state in cache.states)


def _by_kind(seen: Tensor, real: Tensor) -> dict[str, Tensor]:
    """Masks as decoders take them by kind of layer: what columns see, and which columns are there."""
    return {"full_attention": seen, "linear_attention": real, "conv": real}


def _until(mask: Tensor | None, first: int, last: int, width: int) -> Tensor | None:
    """The mask of some of the `width` new columns, as if there were none behind them."""
    return None if mask is None else mask[:, :, first:last, : mask.shape[3] - width + last]


class _Renewed(TorchFunctionMode):
    """Within it, a state that a layer would write over is left as it is, and a new one put in its place: a gradient may
    still need the old one, and another reader begin with it."""

    def __init__(self, cache: Recurrent) -> None:
        super().__init__()
        self.tables = {
            id(table[place]): (table, place)
            for layer, place in cache._places
            for table in (layer.conv_states, layer.recurrent_states)
        }
        self.old = cache.states  # none of them may end, and another tensor have its id

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.copy_ and (found := self.tables.pop(id(args[0]), None)) is not None:
            table, place = found
            table[place] = args[1].to(args[0].dtype, copy=True)
            return table[place]
        return func(*args, **(kwargs or {}))


def step_by_torch(decoder: nn.Module) -> None:
    """Let single columns be read by PyTorch alone. Fused kernels for them, where they are installed, write over states
    and have no gradient; those that read many columns at once stay."""
    module = sys.modules[type(decoder).__module__]
    for name, function in list(vars(module).items()):
        plain = getattr(function, "__wrapped__", None)
        if plain is not None and callable(plain) and ("_update" in name or "recurrent" in name):
            setattr(module, name, _taking(plain))


def _taking(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that leaves out arguments which it does not know, as transformers' wrapper of it does."""
    known = signature(function).parameters

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **{name: value for name, value in kwargs.items() if name in known})

    vars(call).pop("__wrapped__")
    return call


def states_of(cache: DynamicCache) -> States:
    """What a cache holds beside keys and values."""
    return cache.states if isinstance(cache, Recurrent) else ()
