"""What a program gives: scored answers of a teacher-forced pass, and what is said when it decodes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from masc.backends.torch.engine.script import Block
from masc.backends.torch.model.base import Base
from masc.backends.torch.model.losses import token_losses


@dataclass(frozen=True)
class Scored:
    """One output's teacher-forced answer. labels: long [B, A], -100 where padded; losses: the cross entropy of each
    answer token, [B, A], float32, 0 where padded; hidden: the final hidden states that predict the labels, [B, A, d];
    head: what makes logits of them."""

    labels: Tensor
    losses: Tensor
    hidden: Tensor
    head: Callable[[Tensor], Tensor]

    @cached_property
    def logits(self) -> Tensor:
        """[B, A, V], float32; logits[:, t] predicts labels[:, t]. Computed when they are asked for."""
        return self.head(self.hidden)


def scored_by(base: Base, hidden: Tensor, label: Block) -> tuple[Scored, Tensor]:
    """The labels scored by a model's hidden states [B, A, d], and by label, [B, A], a number that is NaN where logits
    are NaN or infinite, or all are -inf, else 0. (-inf alone: a token that cannot be said.) Padded labels cost nothing.
    """
    where = [row * label.real.shape[1] + column for row, n in enumerate(label.lengths) for column in range(n)]
    index = torch.tensor(where, dtype=torch.long, device="cpu").to(hidden.device)
    states, labels = hidden.flatten(0, 1)[index], label.inputs.flatten()[index]
    losses, largest = token_losses(base.logits, states, labels, base.rows)
    empty = losses.new_zeros(label.real.numel())
    whole, broken = (empty.index_put((index,), each).view(label.real.shape) for each in (losses, 0 * largest))
    return Scored(label.inputs.masked_fill(~label.real, -100), whole, hidden, base.logits), broken


@dataclass(frozen=True)
class Output:
    """What a forward pass gives. `outputs`: by output name; `logits` and `labels` are those of the first output.
    loss: the mean over all answer tokens, scalar. tokens: how many those are. positions: real positions run through."""

    outputs: Mapping[str, Scored]
    loss: Tensor
    tokens: int
    positions: int

    @property
    def logits(self) -> Tensor:
        return next(iter(self.outputs.values())).logits

    @property
    def labels(self) -> Tensor:
        return next(iter(self.outputs.values())).labels


@dataclass(frozen=True)
class Said:
    """One decoded answer. ids: its tokens, without the one that ended it; logprob over `scored` tokens (that one
    included), natural log; cut: it was cut off by `max_tokens`, or at the model's last position; scores: the part of
    each of these tokens; end: the token that ended it, if one did."""

    text: str
    ids: tuple[int, ...]
    logprob: float
    scored: int
    cut: bool = False
    scores: tuple[float, ...] = ()
    end: int | None = None

    @property
    def tokens(self) -> tuple[int, ...]:
        """All that was decoded, the token that ended it included: what `scores` are of."""
        return self.ids if self.end is None else (*self.ids, self.end)


def said_of(text: str, ids: Sequence[int], scores: Sequence[float], cut: bool, end: int | None) -> Said:
    return Said(text, tuple(ids), math.fsum(scores), len(scores), cut, tuple(scores), end)
