"""A model in float64 throughout: what finite differences are taken in.

Converting the weights is not enough: norms, softmaxes and rotations ask for float32 themselves, whatever comes in.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


class _Wide(TorchFunctionMode):
    """Within it, whoever asks for float32 gets float64."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.float:
            return args[0].double()
        args = tuple(torch.float64 if each is torch.float32 else each for each in args)
        kwargs = {name: torch.float64 if each is torch.float32 else each for name, each in (kwargs or {}).items()}
        return func(*args, **kwargs)


@contextmanager
def widened(module: nn.Module) -> Iterator[None]:
    """Within it a float32 module is one in float64; after it, to the bit what it was."""
    module.double()
    try:
        with _Wide():
            yield
    finally:
        module.float()
