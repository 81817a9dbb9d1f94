"""What a step of training makes better: objectives, one beside the other. `supervised.py` and `grpo.py` are two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn

from masc.backends.torch.data.values import Row
from masc.backends.torch.engine.rounds import Rounds
from masc.backends.torch.program import Program
from masc.backends.torch.training.metrics import Metrics
from masc.backends.torch.training.processes import Processes
from masc.compiler.ir.plan import TrainSettings
from masc.dsl.diagnostics import Diagnostic


@dataclass(frozen=True)
class Around:
    """What an objective works with. module: the program, or what exchanges its gradients between processes;
    parameters: what is trained, by name; start: what they were when training began, where the objective looks at that.
    """

    program: Program
    module: nn.Module
    parameters: Mapping[str, nn.Parameter]
    settings: TrainSettings
    processes: Processes
    start: Mapping[str, Tensor]


@dataclass(frozen=True)
class Judged:
    """What gates are judged by. draws: [G, B], in the order of the gates; losses: of each sample, summed over its
    answer tokens, [B], float64; tokens: how many those are, [B], float64."""

    draws: Tensor
    losses: Tensor
    tokens: Tensor


@dataclass(frozen=True)
class Work:
    """What one backward pass has found. summed: this process's part of the loss times `total`, scalar float64; total:
    what that is divided by, of all processes; tokens: answer tokens of all processes; positions: run through by this
    one; judged: what gates are judged by; told: further metrics."""

    summed: Tensor
    total: int
    tokens: int
    positions: int
    judged: Sequence[Judged] = ()
    told: Metrics = field(default_factory=dict)


class Batch(Protocol):
    """The rows of one step, ready."""

    def gradients(self, rounds: Rounds | None) -> Work:
        """Add the gradients of the loss, as the weights are now, to the parameters' (the mean over processes is the
        whole). rounds: also told apart by activation."""
        ...


class Objective(Protocol):
    @property
    def updates(self) -> int:
        """Steps of the optimiser on one batch."""
        ...

    @property
    def told(self) -> bool:
        """Whether the model reads the answers that the data tells."""
        ...

    @property
    def compares(self) -> bool:
        """Whether every row must hold its answers."""
        ...

    @property
    def anchored(self) -> bool:
        """Whether it looks at the weights that training began with."""
        ...

    def text(self) -> str:
        """All that decides the weights, as a text by which a run knows whether it may go on."""
        ...

    def check(self, program: Program) -> None:
        """ValueError where it means nothing for a program."""
        ...

    def remarks(self, history: Sequence[Metrics]) -> list[Diagnostic]:
        """What there is to say of the steps so far, after each of them."""
        ...

    def begin(self, around: Around, step: int, batch: Sequence[Row], indices: Sequence[int]) -> Batch:
        """Make the rows of all processes, of a step counted from 0, ready. indices: their numbers in the data."""
        ...


def zero(program: Program) -> Tensor:
    """A sum of nothing, scalar float64."""
    return torch.zeros((), dtype=torch.float64, device=program.device)
