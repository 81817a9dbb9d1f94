"""What a decoder block does behind its attention, as one autograd function: the last projection of attention, the norm,
the gated MLP, and what goes past both. For blocks of the usual build, whose parts are `heads.py` and `gated.py`.

Whether a block is built so is found by trying (`recast.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from masc.backends.torch.model.gated import Gated, gated_of, join_gated
from masc.backends.torch.model.heads import attended, given, join_heads
from masc.backends.torch.model.lora import Group, group_of
from masc.backends.torch.model.norms import eps_of, norm_back, normed, simplify
from masc.backends.torch.model.recast import found, numbers, recast

PARTS = ("input_layernorm", "self_attn", "post_attention_layernorm", "mlp")


@dataclass(frozen=True, eq=False)
class _Rest:
    """What a block does behind its attention: the last projection of attention, the norm's weight and eps, the MLP."""

    last: Group
    weight: Tensor
    eps: float
    mlp: Gated

    def forward(self, mixed: Tensor, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """From what attention gives, [N, H D], and the block's input [N, d] to its output [N, d]; beside it what `back`
        needs."""
        middle, low = self.last.forward(mixed, x)
        inner, scale = normed(middle, self.weight, self.eps)
        output, kept = self.mlp.forward(inner, middle)
        return output, (low, middle, inner, scale, *kept)

    def back(
        self, mixed: Tensor, kept: tuple[Tensor, ...], gradient: Tensor, wanted: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor]:
        """The gradients of what attention gives and of the block's input, of that of its output. wanted: whether the
        adapter's gradient is, and whether that of what attention gives."""
        low, middle, inner, scale, *rest = kept
        back = self.mlp.back(inner, rest, gradient, (wanted[0], True))
        assert back is not None
        past = norm_back(back, middle, self.weight, scale, gradient)
        return self.last.back(mixed, low, past, wanted), past


class _Behind(torch.autograd.Function):
    """What attention gives, [B, Q, H, D], and the block's input [B, Q, d] to the block's output [B, Q, d]."""

    @staticmethod
    def forward(ctx: Any, _: Tensor, mixed: Tensor, x: Tensor, rest: _Rest) -> Tensor:
        ctx.set_materialize_grads(False)
        flat = mixed.reshape(-1, mixed.shape[2] * mixed.shape[3])
        output, kept = rest.forward(flat, x.reshape(-1, x.shape[-1]))
        ctx.save_for_backward(flat, *kept, *rest.last.halves, *rest.mlp.halves)
        ctx.rest, ctx.kept, ctx.shape = rest, len(kept), mixed.shape
        return output.view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor | None) -> tuple[Tensor | None, ...]:
        if gradient is None:
            return None, None, None, None
        flat, *kept = ctx.saved_tensors
        trained, inputs = ctx.needs_input_grad[:2]
        whole = gradient.reshape(-1, gradient.shape[-1])
        back, past = ctx.rest.back(flat, kept[: ctx.kept], whole, (trained, inputs))
        return None, None if back is None else back.view(ctx.shape), past.view(gradient.shape), None


def _rest_of(block: Any) -> _Rest | None:
    """None where a part of the block has to be computed by itself."""
    norm, last = block.post_attention_layernorm, getattr(block.self_attn, "o_proj", None)
    if any(getattr(block, name)._forward_hooks or getattr(block, name)._forward_pre_hooks for name in PARTS):
        return None
    mlp, group = gated_of(block.mlp), None if last is None else group_of(last)
    if mlp is None or group is None or not getattr(type(norm), "simple", False) or norm.weight.requires_grad:
        return None
    return _Rest(group, norm.weight, eps_of(norm) or 0.0, mlp)


def _usual(block: Any) -> bool:
    """Whether a block is built of its parts in the usual way."""
    weight, attention = block.input_layernorm.weight, block.self_attn
    x = numbers(weight, 3, len(weight))
    theirs = type(block).own(block, x, **given(attention, weight))
    middle = x + attention(block.input_layernorm(x), **given(attention, weight))[0]
    return torch.equal(middle + block.mlp(block.post_attention_layernorm(middle)), theirs)


def join(model: nn.Module) -> None:
    """Let norms, attention, gated MLPs and blocks of a model be computed as few functions, where they turn out to be
    what these compute."""
    simplify(model)
    join_heads(model)
    join_gated(model)
    for module in model.modules():
        if {name for name, _ in module.named_children()} == set(PARTS):
            recast(module, _forward)


def _forward(self: Any, hidden_states: Tensor, *others: Any, **named: Any) -> Any:
    x, rest = hidden_states, None if others else _rest_of(self)
    usual = rest is not None and found(self, _usual)
    mixed = attended(self.self_attn, self.input_layernorm(x), named) if usual else None
    if rest is None or mixed is None:
        return type(self).own(self, x, *others, **named)
    if not torch.is_grad_enabled():
        flat = mixed.reshape(-1, mixed.shape[2] * mixed.shape[3])
        return rest.forward(flat, x.reshape(-1, x.shape[-1]))[0].view(x.shape)
    return _Behind.apply(rest.last.token, mixed, x, rest)  # type: ignore[no-untyped-call]
