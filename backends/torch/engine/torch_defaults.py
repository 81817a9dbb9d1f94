"""torch as masc expects it, whatever it has been told elsewhere: what is switched around a call changes no number."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import nn


@contextmanager
def usual_tensors() -> Iterator[None]:
    """Within it new tensors are float32 and on the CPU where nobody says otherwise. The dtype is the whole process's:
    for building alone."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with _on_cpu():
            yield
    finally:
        torch.set_default_dtype(before)


@contextmanager
def usual_training(device: torch.device) -> Iterator[None]:
    """Within it this thread computes with gradients, in the dtypes that tensors have (no autocast on the device), and
    what an optimiser keeps of its own is on the CPU."""
    exact = torch.autocast(device.type, enabled=False)
    with exact, _on_cpu(), torch.inference_mode(False), torch.enable_grad():
        yield


@contextmanager
def as_it_was(module: nn.Module, device: torch.device) -> Iterator[None]:
    """Whatever happens within it, the module has its mode again afterwards, no gradients and nothing
    switched on, and the caller's random numbers are as they were."""
    modes = {each: each.training for each in module.modules()}
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        for each, mode in modes.items():
            each.training = mode
        for parameter in module.parameters():
            parameter.grad = None


def _on_cpu() -> torch.device | nullcontext[None]:
    """A context only where there is something to change: it costs a little in every call of torch."""
    return nullcontext() if torch.get_default_device().type == "cpu" else torch.device("cpu")
