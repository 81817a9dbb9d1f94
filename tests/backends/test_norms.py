"""RMS norms as one operation: the same numbers and gradients as transformers', and only where a norm is one."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from transformers.models.gemma.modeling_gemma import GemmaRMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

from masc.backends.torch.model.norms import rms_norm, simplify


@pytest.mark.parametrize("kind", [LlamaRMSNorm, Qwen3RMSNorm])
@pytest.mark.parametrize(("dtype", "close"), [(torch.float32, 1e-6), (torch.bfloat16, 2e-2)], ids=["f32", "bf16"])
def test_numbers_and_gradients_are_those_of_transformers(kind: type, dtype: torch.dtype, close: float) -> None:
    generator = torch.Generator().manual_seed(1)
    theirs = kind(24, eps=1e-3).requires_grad_(False).to(dtype)
    theirs.weight.copy_(torch.randn(24, generator=generator))
    ours = deepcopy(theirs)
    assert simplify(ours) == 1 == simplify(deepcopy(theirs))
    assert simplify(ours) == 0
    x, gradient = torch.randn(2, 3, 5, 24, generator=generator).to(dtype).split(1)
    found = []
    for module in (theirs, ours):
        given = x.clone().requires_grad_()
        out = module(given)
        out.backward(gradient)
        with torch.no_grad():
            found.append((out.detach(), given.grad, module(x)))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=close * float(one.abs().max()), rtol=0)


def test_the_gradient_is_the_slope() -> None:
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(3, 7, dtype=torch.float64, generator=generator, requires_grad=True)
    weight = torch.randn(7, dtype=torch.float64, generator=generator)
    assert torch.autograd.gradcheck(lambda one: rms_norm(one, weight, 1e-2), x)


def test_a_norm_that_computes_something_else_stays() -> None:
    """Gemma's multiplies by 1 + w."""
    norm = GemmaRMSNorm(8)
    norm.weight.data.fill_(0.5)
    assert simplify(norm) == 0
    assert type(norm) is GemmaRMSNorm


def test_a_weight_that_is_not_frozen_gets_its_gradient() -> None:
    norm = LlamaRMSNorm(8)
    assert simplify(norm) == 1
    norm(torch.randn(2, 8)).sum().backward()
    assert norm.weight.grad is not None
    assert norm.weight.grad.any()
