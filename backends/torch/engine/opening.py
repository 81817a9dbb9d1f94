"""Who of a batch sees a channel that is still open.

Random numbers are drawn on the CPU, whatever the caller's default device is: the same on every machine.
"""

from __future__ import annotations

import torch

from masc.backends.torch.model.adapters import derive


def opening_draws(seed: int, step: int, count: int) -> torch.Tensor:
    """Who sees an opening channel (docs/semantics.md, section 11).

    float [count]: one draw per sample of the optimiser's batch, stratified so that the share of samples that see an
    opening channel is as even as it can be from step to step."""
    generator = torch.Generator().manual_seed(derive(seed, "open", step))
    order = torch.randperm(count, generator=generator, device="cpu")
    return (order + torch.rand(1, generator=generator, device="cpu", dtype=torch.float32)) / count
