"""Products of a few rows with a frozen matrix, as fast as a CPU makes them in float32.

torch gives products in float32 to MKL, which computes those of few rows on one core, or badly on all
(`benchmarks/products.py`). A latent step and a decoded token are nothing but such products. Here oneDNN computes them,
which is part of torch, too; a copy of weights that is made anyway is made in oneDNN's own order. Anything else (wide
passes, other dtypes, GPUs) is as torch does it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from masc.backends.torch.model.applying import Bare

FEW = 24
"""Rows: of wider products neither library is the faster."""
NARROW = 4
"""So few rows MKL spreads over the cores where they are the second factor."""
LARGE = 2**19
"""Numbers of a matrix that a single row takes more than one core for."""


def across(x: Tensor, matrix: Tensor, onto: Tensor | None = None) -> Tensor:
    """Rows [N, in] times a matrix [in, out], the transpose of a weight that is contiguous: [N, out]. onto: what that is
    added to, [N, out] or [out]. Nothing here is seen by autograd."""
    rows = len(x)
    if not _one_by_one(rows, x, matrix):
        return x @ matrix if onto is None else torch.addmm(onto, x, matrix)
    weight = matrix.t()
    made = torch.mm(weight, x.t()).t().contiguous() if 1 < rows <= NARROW else _onednn(x, weight)
    return made if onto is None else made.add_(onto)


def back(gradient: Tensor, weight: Tensor, onto: Tensor | None = None) -> Tensor:
    """The gradient [N, in] of rows of that of `across`, [N, out]. onto: what it is added to, [N, in], in place."""
    if not _one_by_one(len(gradient), gradient, weight):
        return gradient @ weight if onto is None else onto.addmm_(gradient, weight)
    made = _onednn(gradient, weight.t())
    return made if onto is None else onto.add_(made)


def linear(module: Any) -> Callable[[Tensor], Tensor]:
    """What a `torch.nn.Linear` computes, where nothing asks for gradients, of inputs [..., in]. Other modules compute
    themselves."""
    own: Callable[[Tensor], Tensor] = module
    if isinstance(module, Bare):  # which would ask for what computes it
        own = partial(torch.nn.Linear.forward, module)
    elif type(module) is not torch.nn.Linear:
        return own
    return own if type(module.weight.data) is not Tensor or _operator() is None else partial(_linear, module, own)


def packed(weight: Tensor, bias: Tensor | None = None) -> Callable[[Tensor, Tensor | None], Tensor]:
    """What computes `x W^T + b`, for a copy of weights that nothing else holds: in oneDNN's order where that is faster.
    Of inputs [N, in] and what the outputs are added to, [N, out] (None: nothing)."""
    if not packs(weight):
        return partial(_plain, weight, bias)
    return partial(_ordered, torch.ops.mkldnn._reorder_linear_weight(weight, FEW), bias)


def _plain(weight: Tensor, bias: Tensor | None, x: Tensor, onto: Tensor | None) -> Tensor:
    if onto is None:
        return functional.linear(x, weight, bias)
    made = torch.addmm(onto, x, weight.t())
    return made if bias is None else made.add_(bias)


def _ordered(weight: Tensor, bias: Tensor | None, x: Tensor, onto: Tensor | None) -> Tensor:
    made = _onednn(x, weight, bias)
    return made if onto is None else made.add_(onto)


def packs(weight: Tensor) -> bool:
    """Whether a copy of a weight would be computed faster than the weight."""
    return weight.device.type == "cpu" and weight.dtype == torch.float32 and _operator() is not None


def _linear(module: Any, own: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    by_itself = torch.is_grad_enabled() or module._forward_hooks or module._forward_pre_hooks
    if by_itself or not _one_by_one(x.numel() // x.shape[-1], x, module.weight):
        return own(x)
    return across(x.reshape(-1, x.shape[-1]), module.weight.t(), module.bias).view(*x.shape[:-1], -1)


def _one_by_one(rows: int, x: Tensor, weight: Tensor) -> bool:
    """Whether a product of so many rows is not torch's own."""
    return (
        0 < rows <= FEW
        and x.dtype == weight.dtype == torch.float32
        and weight.device.type == "cpu"
        and (rows > 1 or weight.numel() >= LARGE)
        and torch.get_num_threads() > 1
        and _operator() is not None
    )


def _onednn(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`x W^T + b`, the weight as it stands in memory or reordered."""
    operator = _operator()
    assert operator is not None
    made: Tensor = operator(x, weight, bias, "none", [], "")
    return made


@cache
def _operator() -> Callable[..., Tensor] | None:
    """oneDNN's product. torch's compiler calls it by this name; None where torch was built without it."""
    found: Callable[..., Tensor] | None = getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    return found if torch.backends.mkldnn.is_available() else None
