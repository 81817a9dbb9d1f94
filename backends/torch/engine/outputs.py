"""What a program gives: scored answers of a teacher-forced pass, and what is said when it decodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class Scored:
    """One output's teacher-forced answer. logits: [B, A, V], float32; labels: long [B, A], -100 where padded;
    logits[:, t] predicts labels[:, t]."""

    logits: Tensor
    labels: Tensor

    @property
    def losses(self) -> Tensor:
        """Cross entropy of each answer token, [B, A], 0 where padded."""
        flat = functional.cross_entropy(self.logits.flatten(0, 1), self.labels.flatten(), reduction="none")
        return flat.view(self.labels.shape)


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
    included); cut: it was cut off by `max_tokens`, or at the model's last position."""

    text: str
    ids: tuple[int, ...]
    logprob: float
    scored: int
    cut: bool = False
