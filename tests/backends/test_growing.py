"""Keys and values that are written in place say what copied ones say, and so do their gradients."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache

from graphs import GRAPHS
from masc.backends.torch.model import growing as module
from masc.backends.torch.model.growing import growing
from support import ROWS, make_program

WIDTHS = (5, 3, 1, 1, 1, 2)
"""Columns of what is written, one behind the other: a past, a prompt, latent steps, a label."""


def written(seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    """Keys [2, 3, n, 4] and values [2, 3, n, 6] of each writing."""
    generator = torch.Generator().manual_seed(seed)
    sizes = ((2, 3, width, wide) for width in WIDTHS for wide in (4, 6))
    flat = [torch.randn(size, generator=generator, dtype=torch.float64).requires_grad_() for size in sizes]
    return list(zip(flat[::2], flat[1::2], strict=True))


def read(cache: Any, parts: Sequence[tuple[Tensor, Tensor]], heard: Sequence[int]) -> Tensor:
    """What passes make of a cache, each of all that is there by then; of some of them nothing comes to the end."""
    found = torch.zeros((), dtype=torch.float64)
    for i, (keys, values) in enumerate(parts):
        whole, beside = cache.update(keys, values, 0)
        if i in heard:
            weights = (whole.sin().sum(-1) * (1 + i)).softmax(-1)
            found = found + ((weights[..., None] * beside).sum(2) ** 2).sum()
    return found


@pytest.mark.parametrize("heard", [(0, 1, 2, 3, 4, 5), (5,), (2,), (1, 4), (0,)], ids=str)
@pytest.mark.parametrize("frozen", [(), (0,), (3,), (0, 1)], ids=str)
def test_gradients_are_those_of_copies(heard: tuple[int, ...], frozen: tuple[int, ...]) -> None:
    """None where copies give none, too: what has no gradient is not what has one of zeros."""
    ways = []
    for make in (lambda: growing((), sum(WIDTHS)), DynamicCache):
        parts = written()
        for i in frozen:
            parts[i] = (parts[i][0].detach(), parts[i][1].detach())
        out = read(make(), parts, heard)
        if out.requires_grad:
            out.backward()
        ways.append((out.detach(), [each.grad for pair in parts for each in pair]))
    (ours, our), (theirs, their) = ways
    torch.testing.assert_close(ours, theirs)
    for one, other in zip(our, their, strict=True):
        assert (one is None) == (other is None)
        if other is not None:
            torch.testing.assert_close(one, other)


def test_a_past_is_what_is_written_first() -> None:
    past, *rest = written()
    out = read(growing([past], sum(WIDTHS)), rest, range(5))
    other = written()
    known = read(DynamicCache([other[0]]), other[1:], range(5))
    torch.testing.assert_close(out, known)
    out.backward(), known.backward()
    for one, two in zip(past, other[0], strict=True):
        torch.testing.assert_close(one.grad, two.grad)


def test_a_second_backward_pass_starts_anew() -> None:
    """Also after one that asked for some gradients alone, which never came to the first writing."""
    parts = written()
    out = read(growing((), sum(WIDTHS)), parts, range(6))
    flat = [each for pair in parts for each in pair]
    some = torch.autograd.grad(out, flat[6:8], retain_graph=True)
    first = torch.autograd.grad(out, flat, retain_graph=True)
    second = torch.autograd.grad(out, flat)
    for one, two in zip((*first, *some), (*second, *first[6:8]), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=0)


def test_gradients_are_forgotten() -> None:
    """Once a backward pass is through, though its loss is still there."""
    cache = growing((), sum(WIDTHS))
    out = read(cache, written(), range(6))
    out.backward()
    layer: Any = cache.layers[0]
    assert layer._memory.gathered._sums == [None, None]


def test_columns_are_kept_once() -> None:
    """What autograd keeps for passes over growing columns is one memory of keys and one of values."""
    found: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.dim() == 4:
            found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        cache, total = growing((), sum(WIDTHS)), torch.zeros(())
        for keys, values in written():
            whole, beside = cache.update(keys, values, 0)
            total = total + (whole * beside[..., :4]).sum()
    assert sorted(found.values()) == [8 * 2 * 3 * sum(WIDTHS) * wide for wide in (4, 6)]
    total.backward()


def test_memory_of_what_is_computed_again_is_given_back(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[Any] = []
    known = module._Memory.__init__

    def noted(self: Any, *args: Any) -> None:
        known(self, *args)
        alive.append(weakref.ref(self))

    monkeypatch.setattr(module._Memory, "__init__", noted)
    program = make_program(GRAPHS["trace"], tiny)
    loss = program(ROWS, recompute=True).loss
    gc.collect()
    assert alive
    assert not any(one() for one in alive)
    loss.backward()
