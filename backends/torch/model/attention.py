"""Attention with a mask for each layer (docs/semantics.md, sections 4.4 and 4.5).

Transformers hands every layer one and the same mask, and takes a 4-D mask as it is. So a mask here is
[B, 1, Q, K] (the same for all layers) or [B, L, Q, K] (layer by layer), and the registered function picks its layer.
It is bool (what is seen), or, where gates are half open, a number that is added to the scores (-inf: not seen).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

NAME = "masc"
"""What `attn_implementation` is set to on every base model."""


def attend(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """What transformers' attention modules call: queries [B, H, Q, D], keys and values [B, H', K, D], a mask as
    `block_mask` makes them. Returns [B, Q, H, D]."""
    if (heard := _HEARD.get()) is not None:
        heard.append(Heard(module, (query, key, value), kwargs))
    layer: int = module.layer_idx  # type: ignore[assignment]
    if attention_mask is not None and attention_mask.shape[1] > 1:
        read = getattr(module, "reads", layer)
        attention_mask = attention_mask[:, read : read + 1]
    if attention_mask is not None and attention_mask.is_floating_point():
        attention_mask = attention_mask.to(query.dtype)
    if (watch := _WATCHING.get()) is not None:
        with torch.no_grad():
            watch.note(layer, _weights(query, key, attention_mask, **kwargs))
    if kwargs.get("softcap") is not None or kwargs.get("s_aux") is not None:  # which sdpa does not know
        weights = _weights(query, key, attention_mask, **kwargs).to(value.dtype)
        shared = value.repeat_interleave(query.shape[1] // value.shape[1], 1)
        return (weights @ shared).transpose(1, 2).contiguous(), None
    if kwargs.get("dropout") or kwargs.get("position_bias") is not None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)
    scaling, on_cpu = kwargs.get("scaling"), query.device.type == "cpu"
    if query.shape[2] == 1 or (attention_mask is not None and not on_cpu):
        return _together(query, key, value, attention_mask, scaling), None
    if on_cpu:
        causal = kwargs.get("is_causal")
        causal = attention_mask is None and (getattr(module, "is_causal", True) if causal is None else causal)
        return _on_cpu(query, key, value, attention_mask, scaling, bool(causal)), None
    return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)


def _together(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None) -> Tensor:
    """Attention [B, Q, H, D] of several positions with a mask, or of a single one. Heads that read the same keys stand
    where further positions would: nothing is copied for them."""
    batch, heads, count, wide = query.shape
    groups = heads // key.shape[1]
    single = query.device.type == "cuda" and count == 1 and not torch.is_grad_enabled()
    if single and _by_cudnn(query, key, value, mask):
        out = scaled_dot_product_attention(query, key, value, mask, scale=scaling, enable_gqa=groups > 1)
        return out.transpose(1, 2)
    if mask is not None and count > 1:
        mask = mask.repeat(1, 1, groups, 1)
    queries = query.reshape(batch, key.shape[1], groups * count, wide)
    out = scaled_dot_product_attention(queries, key, value, mask, scale=scaling)
    if count == 1:
        return out.reshape(batch, 1, heads, -1)
    return out.reshape(batch, heads, count, -1).transpose(1, 2).contiguous()


def _by_cudnn(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> bool:
    """Whether cuDNN's attention takes them, heads that share keys as they are: the fastest for a single position."""
    asked = torch.backends.cuda.SDPAParams(query, key, value, mask, 0.0, False, query.shape[1] != key.shape[1])
    return torch.backends.cuda.can_use_cudnn_attention(asked)


def _on_cpu(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float | None, causal: bool
) -> Tensor:
    """Attention of several positions, [B, Q, H, D], without a copy of keys and values for each head that reads them.
    Its gradients are several times as fast in float32 as in bfloat16."""
    own, grouped = query.dtype, query.shape[1] != key.shape[1]
    wide = torch.promote_types(own, torch.float32) if torch.is_grad_enabled() else own
    query, key, value = query.to(wide), key.to(wide), value.to(wide)
    mask = mask.to(wide) if mask is not None and mask.is_floating_point() else mask
    out = scaled_dot_product_attention(query, key, value, mask, is_causal=causal, scale=scaling, enable_gqa=grouped)
    return out.transpose(1, 2).to(own).contiguous()


def _weights(
    query: Tensor,
    key: Tensor,
    mask: Tensor | None,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **_: Any,
) -> Tensor:
    """The attention weights [B, H, Q, K], float32 or wider. mask: bool, or what is added to the scores; softcap: scores
    stay within it, by a tanh (gemma2); s_aux: [H], the score of a sink of each head, which takes a share of the
    attention and gives nothing (gpt_oss)."""
    wide = torch.promote_types(query.dtype, torch.float32)
    keys = key.repeat_interleave(query.shape[1] // key.shape[1], 1).to(wide)
    scores = query.to(wide) @ keys.transpose(2, 3) * (query.shape[3] ** -0.5 if scaling is None else scaling)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if mask is None:
        rows, long = scores.shape[2:]
        mask = torch.ones(rows, long, dtype=torch.bool, device=scores.device).tril(long - rows)
    scores = scores.masked_fill(~mask, float("-inf")) if mask.dtype == torch.bool else scores + mask
    if s_aux is None:
        return scores.softmax(-1)
    sinks = s_aux.to(wide).view(1, -1, 1, 1).expand(*scores.shape[:3], 1)
    return torch.cat([scores, sinks], 3).softmax(-1)[..., :-1]


class Noting(Protocol):
    """What is told of attention while it is on (`watching`)."""

    def note(self, layer: int, weights: Tensor) -> None:
        """The attention weights of a pass in a layer, [B, H, Q, K]."""


@dataclass
class Watch:
    """How much attention goes to some columns while it is on (`watching`). columns: bool [L or 1, C], the cache's first
    C columns. mass: by layer, summed over queries, the mean over heads (and over a batch whose queries are all real).
    """

    columns: Tensor
    mass: dict[int, float] = field(default_factory=dict)
    queries: dict[int, int] = field(default_factory=dict)

    def note(self, layer: int, weights: Tensor) -> None:
        """weights: [B, H, Q, K]."""
        row = self.columns[layer if self.columns.shape[0] > 1 else 0]
        width = min(len(row), weights.shape[3])
        mass = (weights[..., :width] * row[:width]).sum(-1).mean((0, 1)).sum()
        self.mass[layer] = self.mass.get(layer, 0.0) + float(mass)
        self.queries[layer] = self.queries.get(layer, 0) + weights.shape[2]


_WATCHING: ContextVar[Noting | None] = ContextVar("masc_watching", default=None)


@contextmanager
def watching(watch: Noting | None) -> Iterator[None]:
    """Within it, the attention of this thread is noted (None: it is not)."""
    token = _WATCHING.set(watch)
    try:
        yield
    finally:
        _WATCHING.reset(token)


@dataclass(frozen=True)
class Heard:
    """One call of the attention function. given: queries, keys, values; constants: the rest, by name."""

    module: Any
    given: tuple[Tensor, Tensor, Tensor]
    constants: Mapping[str, Any]


_HEARD: ContextVar[list[Heard] | None] = ContextVar("masc_heard", default=None)


@contextmanager
def overheard() -> Iterator[list[Heard]]:
    """Within it, what this thread asks of the attention function is noted."""
    heard: list[Heard] = []
    token = _HEARD.set(heard)
    try:
        yield heard
    finally:
        _HEARD.reset(token)


ALL_ATTENTION_FUNCTIONS.register(NAME, attend)
ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, sdpa_mask)


@dataclass(frozen=True)
class Columns:
    """Columns of a cache: which of them are seen, bool [B, 1 or L, T], and at which positions, long [B, T].

    open: how far the gates are open through which they are seen, from 0 to 1, [B, 1 or L, T]: the softmax weight of a
    column is multiplied by it before the weights are brought to a sum of 1. None: there are no gates, all is 1.
    whole: whether all are seen by all (None: nobody has asked the device yet).
    """

    seen: Tensor
    place: Tensor
    open: Tensor | None = None
    whole: bool | None = None

    def grow(self, real: Tensor, place: Tensor, gate: Tensor | None = None, whole: bool | None = None) -> Columns:
        """With new columns behind these, which are seen by every layer: real bool [B, Q], place long [B, Q], gate
        [B, Q] as `open`; whole: whether all of them are real."""
        new = real[:, None].expand(-1, self.seen.shape[1], -1)
        seen, where = torch.cat([self.seen, new], 2), torch.cat([self.place, place], 1)
        gates = opened((self.open, self.seen), (None if gate is None else gate[:, None], new))
        both = None if self.whole is None or whole is None else self.whole and whole
        return Columns(seen, where, gates, both)

    def asked(self) -> Columns:
        """The same, `whole` known. The device is waited for, unless it is known already."""
        return self if self.whole is not None else replace(self, whole=bool(self.seen.all()))


def begun(past: Columns | None, real: Tensor, place: Tensor, gate: Tensor | None, whole: bool | None = None) -> Columns:
    """What is seen once the first columns of a segment stand behind its past."""
    if past is None:
        return Columns(real[:, None], place, None if gate is None else gate[:, None], whole)
    return past.grow(real, place, gate, whole)


def opened(*parts: tuple[Tensor | None, Tensor]) -> Tensor | None:
    """How far columns are open that stand side by side, [B, 1 or L, T]: of each part that, [B or 1, 1 or L, T], and
    what of it is seen, bool [B, 1 or L, T], which has the shape. None: there are no gates in any."""
    known = [gate for gate, _ in parts if gate is not None]
    if not known:
        return None
    depth = max(*(gate.shape[1] for gate in known), 1)
    whole = [seen.new_ones(seen.shape[0], 1, seen.shape[2], dtype=known[0].dtype) for _, seen in parts]
    both = zip(parts, whole, strict=True)
    found = [(one if gate is None else one * gate).expand(-1, depth, -1) for (gate, _), one in both]
    return torch.cat(found, 2)


def block_mask(
    past: Columns | None,
    real: Tensor,
    place: Tensor,
    windows: Tensor | None = None,
    gate: Tensor | None = None,
    whole: bool | None = None,
) -> Tensor | None:
    """The mask for a block of new positions that see a past and, causally, each other.

    past: None: there is none. real: bool [B, Q], which new columns are; place: long [B, Q], their positions.
    windows: long [L], how many positions each layer sees, its own included (None: no layer is limited). Windows go by
    position, not by column: columns of siblings that overlap share positions.
    gate: [B, Q], how far new columns are open to those behind them, from 0 to 1 (None: all are). whole: whether all
    new columns are real (None: the device is asked).
    Returns bool [B, 1 or L, Q, T + Q], or None where plain causal attention is the same and faster. Where there are
    gates, -inf for what is not seen and else the logarithm of how far it is open, in the dtype of the gates.
    A padded column sees at least itself, as every column sees itself whole: a row of a softmax must not be empty.
    """
    before = () if past is None else ((past.open, past.seen),)
    gated = opened(*before, (None if gate is None else gate[:, None], real[:, None]))
    mask = _padding_hidden(
        past, real, windows is not None or gated is not None, bool(real.all()) if whole is None else whole
    )
    if mask is None:
        return None
    if windows is not None:
        mask = mask & _near(past, place, windows)
    return mask if gated is None else _biased(mask, gated)


def window_of(block: torch.nn.Module, decoder: torch.nn.Module, config: Any) -> int | None:
    """How many positions a block sees, its own included; None: all. Blocks that differ say so themselves; where they
    do not, the modules of a type that knows windows give the config's to every block."""
    attention: Any = getattr(block, "self_attn", None)
    if hasattr(attention, "sliding_window"):
        return attention.sliding_window or None if getattr(attention, "is_sliding", True) else None
    if hasattr(sys.modules[type(decoder).__module__], "create_sliding_window_causal_mask"):
        return getattr(config, "sliding_window", None) or None
    return None


def _near(past: Columns | None, place: Tensor, windows: Tensor) -> Tensor:
    """What lies in the window of each layer, bool [B, L, Q, T + Q]."""
    where = place if past is None else torch.cat([past.place, place], 1)
    distance = place[:, :, None] - where[:, None, :]
    near: Tensor = distance[:, None] < windows[None, :, None, None]
    width = place.shape[1]
    near[..., -width:] |= torch.eye(width, dtype=torch.bool, device=near.device)
    return near


def _biased(mask: Tensor, gated: Tensor) -> Tensor:
    """A mask, bool [B, 1 or L, Q, K], as what is added to scores, where columns are open so far: [B, 1 or L, K]."""
    width = mask.shape[2]
    itself = torch.zeros(width, mask.shape[3], dtype=torch.bool, device=mask.device)
    itself[:, -width:] = torch.eye(width, dtype=torch.bool, device=mask.device)
    seen = mask & ((gated > 0)[:, :, None] | itself)
    # Where it is not seen the logarithm would be infinite, and its gradient no number.
    bias = torch.where(gated > 0, gated, 1).log()[:, :, None].masked_fill(itself, 0)
    return bias.where(seen, float("-inf"))


def _padding_hidden(past: Columns | None, real: Tensor, explicit: bool, whole: bool) -> Tensor | None:
    """`block_mask` before windows: this is where padding is hidden. real: bool [B, Q], which new columns are. past:
    padded columns are not seen in it already, those of others (`segments.seen_of`) and those that the agent itself has
    written (`Columns.grow`). explicit: never None. whole: whether all new columns are real."""
    batch, width = real.shape
    if whole and not explicit and (past is None or (width == 1 and past.asked().whole)):
        return None
    causal = torch.ones(width, width, dtype=torch.bool, device=real.device).tril()
    own = (causal & real[:, None, :]) | torch.eye(width, dtype=torch.bool, device=real.device)
    own = own[:, None]
    if past is None:
        return own
    layers = past.seen.shape[1]
    return torch.cat(
        [past.seen[:, :, None, :].expand(batch, layers, width, -1), own.expand(batch, layers, width, width)], dim=3
    )
