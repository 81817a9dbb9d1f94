"""Attention whose queries, keys and values are one autograd function: projections, their LoRA, norms of heads if there
are any, rotary embedding. What is done with them (`attention.py`) and what comes after stays as it is.

Whether a module computes just that is found by trying (`recast.py`): what its own forward pass hands to the attention
function is held against what is computed here, and the constants that it hands over beside (a scale, a cap) are those
that are handed over from then on.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import DynamicCache

from masc.backends.torch.model.attention import NAME, attend, overheard
from masc.backends.torch.model.lora import Group, group_of
from masc.backends.torch.model.norms import eps_of, norm_back, normed
from masc.backends.torch.model.recast import found, near, numbers, recast

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")


@dataclass(frozen=True, eq=False)
class _Shape:
    """heads: of queries, and of keys; width: of each. norms: weights [D] by which queries and keys are normed, and
    their eps."""

    heads: tuple[int, int]
    width: int
    norms: tuple[Tensor, Tensor, float] | None

    def parts(
        self, whole: Tensor, cos: Tensor, sin: Tensor
    ) -> tuple[tuple[Tensor, Tensor, Tensor], tuple[Tensor, ...]]:
        """Queries, keys and values [B, H, Q, D] of what the projections make, [B Q, H D]; beside them what `back`
        needs. cos, sin: as `_Turns` makes them, [B, Q, 1, D]."""
        heads = whole.view(*cos.shape[:2], -1, self.width)
        turned, values = heads.split([sum(self.heads), self.heads[1]], 2)
        kept: tuple[Tensor, ...] = ()
        if self.norms is not None:
            *weights, eps = self.norms
            both = [
                normed(each, weight, eps) for each, weight in zip(turned.split(self.heads, 2), weights, strict=True)
            ]
            kept = (turned, *(scale for _, scale in both))
            turned = torch.cat([each for each, _ in both], 2)
        # Some types turn in float32, whatever the model's numbers are.
        turned = (turned * cos).addcmul_(turned.roll(self.width // 2, -1), sin).to(whole.dtype)
        query, key = turned.transpose(1, 2).split(self.heads, 1)
        return (query, key, values.transpose(1, 2)), kept

    def back(self, gradients: Sequence[Tensor | None], cos: Tensor, back: Tensor, kept: Sequence[Tensor]) -> Tensor:
        """The gradient of what the projections make, [B Q, H D], of that of queries, keys and values (None: 0)."""
        some = next(each for each in gradients if each is not None)
        batch, _, long, _ = some.shape
        counts = (*self.heads, self.heads[1])
        parts = [
            some.new_zeros(batch, count, long, self.width) if each is None else each
            for each, count in zip(gradients, counts, strict=True)
        ]
        whole = some.new_empty(batch, long, sum(counts), self.width)
        torch.cat(parts, 1, out=whole.transpose(1, 2))
        turned = whole[:, :, : sum(self.heads)]
        across = turned.roll(self.width // 2, -1)
        turned.mul_(cos).addcmul_(across, back)
        if self.norms is not None:
            plain, *scales = kept
            of = zip(turned.split(self.heads, 2), plain.split(self.heads, 2), self.norms[:2], scales, strict=True)
            for part, before, weight, scale in of:
                part.copy_(norm_back(part, before, weight, scale))
        return whole.view(batch * long, -1)


class _Turns(threading.local):
    """The rotation of the pass that this thread is in: all layers have the same."""

    given: tuple[Tensor, Tensor] | None = None
    made: tuple[Tensor, Tensor, Tensor]

    def of(self, cos: Tensor, sin: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """cos [B, Q, 1, D], and sin alike, its first half negative: what the other half of a head is multiplied by; and
        what that of a gradient is multiplied by. Of transformers' cos and sin, [B, Q, D]."""
        if self.given is None or self.given[0] is not cos or self.given[1] is not sin:
            first, second = sin[:, :, None].chunk(2, -1)
            self.made = cos[:, :, None], torch.cat([-first, second], -1), torch.cat([second, -first], -1)
            self.given = cos, sin
        return self.made


_TURNS = _Turns()


class _Heads(torch.autograd.Function):
    """An input [B, Q, d] to queries, keys and values [B, H, Q, D]."""

    @staticmethod
    def forward(
        ctx: Any, _: Tensor, x: Tensor, turns: tuple[Tensor, Tensor, Tensor], group: Group, shape: _Shape
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        whole, low = group.forward(x.reshape(-1, x.shape[-1]))
        cos, sin, back = turns
        made, kept = shape.parts(whole, cos, sin)
        ctx.save_for_backward(x, low, cos, back, *kept, *group.halves)
        ctx.group, ctx.shape, ctx.kept = group, shape, len(kept)
        return made

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        x, low, cos, back, *kept = ctx.saved_tensors
        has = [each is not None for each in gradients]
        if not any(has):
            return None, None, None, None, None
        whole, flat = ctx.shape.back(gradients, cos, back, kept[: ctx.kept]), x.reshape(-1, x.shape[-1])
        found = ctx.group.back(flat, low, whole, ctx.needs_input_grad, has)
        return None, None if found is None else found.view(x.shape), None, None, None


@dataclass(frozen=True, eq=False)
class _Computed:
    """What a module computes. constants: what it hands to the attention function."""

    shape: _Shape
    constants: Mapping[str, Any]


def attended(module: Any, x: Tensor, named: Mapping[str, Any]) -> Tensor | None:
    """What attention gives before its last projection, [B, Q, H, D], of x [B, Q, d]. named: what transformers gives the
    module. None where the module has to compute it itself."""
    turn, past = named.get("position_embeddings"), named.get("past_key_values")
    if not hasattr(type(module), "own") or turn is None or module.config._attn_implementation != NAME:
        return None
    group = group_of(module.q_proj, module.k_proj, module.v_proj)
    if group is None:
        return None
    computed = found(module, _computed)
    if computed is None or turn[0].shape != (*x.shape[:2], computed.shape.width):
        return None
    turns = _TURNS.of(*turn)
    if torch.is_grad_enabled():
        query, key, value = _Heads.apply(group.token, x, turns, group, computed.shape)  # type: ignore[no-untyped-call]
    else:
        whole, _ = group.forward(x.reshape(-1, x.shape[-1]))
        (query, key, value), _ = computed.shape.parts(whole, *turns[:2])
    if past is not None:
        key, value = past.update(key, value, module.layer_idx)
    return attend(module, query, key, value, named.get("attention_mask"), **computed.constants)[0]


def given(module: Any, like: Tensor) -> dict[str, Any]:
    """What an attention module, or its block, is given beside `recast.numbers`, to be tried: with an empty cache."""
    angles = numbers(like, 3, (getattr(module, "head_dim", None) or 2) // 2).repeat(1, 1, 2)
    far = torch.full((2, 3), 10**7, device=like.device)  # some scale queries by where they are
    turn = {"position_embeddings": (angles.cos(), angles.sin()), "position_ids": far}
    return {**turn, "attention_mask": None, "past_key_values": DynamicCache(), "use_cache": True}


def _computed(module: Any) -> _Computed | None:
    """None where a module computes something else than what is computed here."""
    shape = _shape_of(module)
    if shape is None:
        return None
    like = _base(module.q_proj).weight
    x, named = numbers(like, 3, like.shape[1]), given(module, like)
    with overheard() as heard:
        theirs, nothing = type(module).own(module, x, **named)
    (one,) = heard
    constants = {name: value for name, value in one.constants.items() if name not in named}
    whole = torch.cat([module.q_proj(x), module.k_proj(x), module.v_proj(x)], -1)
    ours, _ = shape.parts(whole.flatten(0, 1), *_Turns().of(*named["position_embeddings"])[:2])
    out = module.o_proj(attend(module, *one.given, None, **constants)[0].flatten(2))
    held: Any = named["past_key_values"].layers[module.layer_idx]
    kept = torch.equal(held.keys, one.given[1]) and torch.equal(held.values, one.given[2])
    same = one.module is module and nothing is None and all(map(near, ours, one.given)) and torch.equal(out, theirs)
    return _Computed(shape, constants) if same and kept else None


def _shape_of(module: Any) -> _Shape | None:
    """By its projections."""
    wide = getattr(module, "head_dim", None)
    if not isinstance(wide, int) or wide % 2:
        return None
    counts = [_base(getattr(module, name)).weight.shape[0] / wide for name in PROJECTIONS[:3]]
    if counts[1] != counts[2] or any(count != int(count) for count in counts):
        return None
    norms = [getattr(module, name, None) for name in ("q_norm", "k_norm")]
    heads = (int(counts[0]), int(counts[1]))
    if norms == [None, None]:
        return _Shape(heads, wide, None)
    eps = [None if one is None else eps_of(one) for one in norms]
    weights = [getattr(one, "weight", None) for one in norms]
    if eps[0] is None or eps[0] != eps[1] or not all(_frozen(one, wide) for one in weights):
        return None
    return _Shape(heads, wide, (*weights, eps[0]))  # type: ignore[arg-type]


def _frozen(weight: Tensor | None, wide: int) -> bool:
    return weight is not None and weight.shape == (wide,) and not weight.requires_grad


def _base(layer: Any) -> Any:
    return layer.get_base_layer() if hasattr(layer, "get_base_layer") else layer


def join_heads(model: nn.Module) -> None:
    """Let attention modules that have the usual projections compute them in one, where they turn out to."""
    for module in model.modules():
        if all(isinstance(getattr(module, name, None), nn.Module) for name in PROJECTIONS):
            recast(module, _forward)


def _forward(self: Any, hidden_states: Tensor, *others: Any, **named: Any) -> Any:
    mixed = None if others else attended(self, hidden_states, named)
    if mixed is None:
        return type(self).own(self, hidden_states, *others, **named)
    return self.o_proj(mixed.flatten(2)), None
