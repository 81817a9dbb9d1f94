"""Who of a batch sees a channel that is still open, and how far gates are open for each sample of it.

Random numbers are drawn on the CPU, whatever the caller's default device is: the same on every machine.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from masc.backends.torch.model.adapters import derive
from masc.backends.torch.model.segments import Opening
from masc.dsl.diagnostics import Diagnostic


def opening_at(seed: int, step: int, count: int, gates: Iterable[str]) -> Opening:
    """Where training stands at a step, for all samples of the optimiser's batch. gates: names of the edges that have
    one. What is drawn depends on seed, step and name alone."""
    return Opening(
        step, opening_draws(seed, step, count), {name: gate_draws(seed, step, count, name) for name in gates}
    )


def gate_draws(seed: int, step: int, count: int, edge: str) -> torch.Tensor:
    """What the gate of an edge is drawn from (docs/semantics.md, section 7.5): float [count] in (0, 1), one for each
    sample, spread over the interval as evenly as `opening_draws`."""
    generator = torch.Generator().manual_seed(derive(seed, "gate", step, edge))
    order = torch.randperm(count, generator=generator, device="cpu")
    within = torch.rand(count, generator=generator, device="cpu", dtype=torch.float32)
    return ((order + within) / count).clamp(1e-6, 1 - 1e-6)


def opening_draws(seed: int, step: int, count: int) -> torch.Tensor:
    """Who sees an opening channel (docs/semantics.md, section 11).

    float [count]: one draw per sample of the optimiser's batch, stratified so that the share of samples that see an
    opening channel is as even as it can be from step to step."""
    generator = torch.Generator().manual_seed(derive(seed, "open", step))
    order = torch.randperm(count, generator=generator, device="cpu")
    return (order + torch.rand(1, generator=generator, device="cpu", dtype=torch.float32)) / count


def without_step(opens: bool) -> Diagnostic:
    """What is told of a forward pass in training mode that does not say at which step. opens: there are channels with
    `open`; else there are gates."""
    what, why = "channels with `open`", "runs with them closed"
    if not opens:
        what, why = "gates", "draws nothing: a gate that is wide open learns nothing"
    return Diagnostic(
        "W0310" if opens else "W0311",
        f"this graph has {what}, and a forward pass without `step` {why}: call `program(rows, step=...)` with the "
        "number of the training step",
    )
