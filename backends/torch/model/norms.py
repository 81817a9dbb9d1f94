"""RMS norms as one operation: transformers writes each as eight, and as many again for the gradient.

What a norm module computes is found by trying: where it is `w x / sqrt(mean(x^2) + eps)`, it is computed so here. Its
weight is frozen; one that is not is left to torch, for this gradient has no part for it.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional


def normed(x: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The norm, and 1 / sqrt(mean(x^2) + eps) [..., 1], which its gradient needs."""
    if x.is_cuda:
        out, scale = torch.ops.aten._fused_rms_norm(x.contiguous(), [x.shape[-1]], weight, eps)
        return out, scale
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=_wide(x.dtype))
    scale = torch.addcmul(_number(eps, length.dtype, length.device), length, length, value=1 / x.shape[-1]).rsqrt_()
    return torch.mul(x * scale, weight, out=torch.empty_like(x)), scale


def _wide(dtype: torch.dtype) -> torch.dtype:
    """In which norms are computed: float32 or wider."""
    return torch.float32 if dtype.itemsize < 4 else dtype


@cache
def _number(value: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A number as a tensor, made once."""
    with torch.inference_mode(False):
        return torch.tensor(value, dtype=dtype, device=device)


class _Norm(torch.autograd.Function):
    """x [..., d] and a weight [d] to w x / sqrt(mean(x^2) + eps), computed in float32 or wider and rounded once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        out, scale = normed(x, weight, eps)
        ctx.save_for_backward(x, weight, scale)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, None, None]:
        return norm_back(gradient, *ctx.saved_tensors), None, None


def norm_back(gradient: Tensor, x: Tensor, weight: Tensor, scale: Tensor, onto: Tensor | None = None) -> Tensor:
    """The gradient of x of that of its norm, both [..., d]. scale: what `normed` gave beside the norm. onto: what it is
    added to, [..., d]."""
    if x.is_cuda:
        found = torch.ops.aten._fused_rms_norm_backward(
            gradient.contiguous(), x.contiguous(), [x.shape[-1]], scale, weight, [True, False]
        )
        own: Tensor = found[0]
        return own if onto is None else own.add_(onto)
    unit = x * scale
    back = gradient.to(unit.dtype) * weight
    along = (back * unit).mean(-1, keepdim=True)
    back.addcmul_(unit, along, value=-1)
    out = torch.empty_like(x)
    return torch.mul(back, scale, out=out) if onto is None else torch.addcmul(onto, back, scale, out=out)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """w x / sqrt(mean(x^2) + eps) over the last dimension, differentiable: of x [..., d] and w [d]."""
    if not torch.is_grad_enabled() or weight.requires_grad:
        return functional.rms_norm(x, weight.shape, weight, eps)
    out: Tensor = _Norm.apply(x, weight, eps)  # type: ignore[no-untyped-call]
    return out


def simplify(model: nn.Module) -> int:
    """Let the norms of a model that are RMS norms be computed as one operation. Returns how many are."""
    found = [module for module in model.modules() if _is_rms_norm(module)]
    for module in found:
        module.__class__ = _simple(type(module), eps_of(module) or 0.0)  # type: ignore[arg-type]
    return len(found)


def eps_of(module: nn.Module) -> float | None:
    named = (getattr(module, name, None) for name in ("variance_epsilon", "eps"))
    return next((float(eps) for eps in named if isinstance(eps, float)), None)


@torch.no_grad()
def _is_rms_norm(module: nn.Module) -> bool:
    """Whether a module is seen to compute it, on numbers of its own."""
    weight, eps = getattr(module, "weight", None), eps_of(module)
    if not type(module).__name__.endswith("RMSNorm") or weight is None or eps is None or weight.dim() != 1:
        return False
    if getattr(type(module), "simple", False) or weight.is_meta or list(module.parameters()) != [weight]:
        return False
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, len(weight), generator=generator).to(weight.device, weight.dtype)
    theirs, ours = module(x), rms_norm(x, weight, eps)
    # Theirs is computed in float32 even in float64.
    close = 4 * max(torch.finfo(each).eps for each in (weight.dtype, torch.float32)) * theirs.abs().max()
    return theirs.dtype == ours.dtype and bool((theirs - ours).abs().max() <= close)


@cache
def _simple(kind: type[nn.Module], eps: float) -> type[nn.Module]:
    """A class of norms that is computed here."""

    def forward(self: Any, hidden_states: Tensor) -> Tensor:
        return rms_norm(hidden_states, self.weight, eps)

    return type(kind.__name__, (kind,), {"forward": forward, "simple": True, "__module__": kind.__module__})
