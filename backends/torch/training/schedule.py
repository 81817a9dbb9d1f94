"""What a step of training does apart from the model: which rows it takes, and at which rate. All of it is a function of
the settings, the seed and the step, which is why a run that was killed and resumed ends with the weights that it would
have had.

Random numbers are drawn on the CPU, whatever the caller's default device is: the same on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from masc.backends.torch.model.adapters import derive
from masc.compiler.ir.plan import TrainSettings


def data_order(seed: int, count: int, start: int = 0) -> Iterator[int]:
    """Row numbers for ever: each epoch a permutation that depends on the seed and the epoch alone. start: how many of
    them are left out at the beginning."""
    epoch, left_out = divmod(start, count)
    while True:
        generator = torch.Generator().manual_seed(derive(seed, "order", epoch))
        order: list[int] = torch.randperm(count, generator=generator, device="cpu").tolist()
        yield from order[left_out:]
        epoch, left_out = epoch + 1, 0


def rate_at(settings: TrainSettings, step: int) -> float:
    """Linear warm-up over the first share of the steps, then a cosine down to zero. step counts from 0."""
    warm = max(1, round(settings.warmup * settings.steps)) if settings.warmup else 0
    if step < warm:
        return settings.rate * (step + 1) / warm
    done = (step - warm) / max(1, settings.steps - warm)
    return settings.rate * 0.5 * (1 + math.cos(math.pi * done))


def sparsity_at(settings: TrainSettings, step: int) -> float:
    """What an open gate costs at a step, counted from 0: it rises in a line over the first half of training. Before a
    team has learnt to use an edge, that edge looks as idle as one that is."""
    return settings.sparsity * min(1.0, 2 * (step + 1) / settings.steps)


def due(every: int, step: int, steps: int) -> bool:
    """Whether what is done every so many steps (0: only at the end) is done after a step, counted from 1."""
    return step == steps or (every > 0 and step % every == 0)
