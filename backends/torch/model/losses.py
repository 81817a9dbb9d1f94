"""The cross entropy of labels, a part of them at a time: logits of many tokens over a large vocabulary are never in
memory together, and none are kept for the backward pass."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import cross_entropy

AT_ONCE = 1 << 25
"""So many logits at most."""


def token_losses(
    head: Callable[[Tensor], Tensor], hidden: Tensor, labels: Tensor, vocabulary: int
) -> tuple[Tensor, Tensor]:
    """The cross entropy of each label, [N], and its largest logit, [N], without a gradient. hidden: [N, d]; labels:
    long [N]; head: hidden states to logits [..., V] in the dtype of the loss; vocabulary: V."""
    losses, largest = _Losses.apply(hidden, labels, head, max(1, AT_ONCE // vocabulary))  # type: ignore[no-untyped-call]
    return losses, largest


class _Losses(torch.autograd.Function):
    """What each loss gives to its own hidden state, [N, d], is worked out at once: that alone is kept."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, labels: Tensor, head: Callable[[Tensor], Tensor], rows: int
    ) -> tuple[Tensor, Tensor]:
        wanted = ctx.needs_input_grad[0]
        losses, largest, gradients = [], [], []
        for states, targets in zip(hidden.detach().split(rows), labels.split(rows), strict=True):
            with torch.set_grad_enabled(wanted):
                own = states.requires_grad_() if wanted else states
                logits = head(own)
                loss = cross_entropy(logits, targets, reduction="none")
                if wanted:
                    gradients += torch.autograd.grad(loss.sum(), own)
            losses.append(loss.detach())
            largest.append(logits.detach().amax(-1))
        if wanted:
            ctx.save_for_backward(torch.cat(gradients))
        tops = torch.cat(largest)
        ctx.mark_non_differentiable(tops)
        return torch.cat(losses), tops

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        (own,) = ctx.saved_tensors
        return (own * gradient[:, None]).to(own.dtype), None, None, None
