"""The processes that train together: one, or those that `torchrun` started, which exchange gradients.

One process needs nothing of accelerate, and so takes nothing over from it: neither what other code in the process has
set (mixed precision, the device) nor what the environment says (`ACCELERATE_GRADIENT_ACCUMULATION_STEPS`).
"""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from accelerate import Accelerator

    from masc.backends.torch.engine.modules import Modules


@dataclass(frozen=True)
class Processes:
    """count: how many there are; rank: which of them this one is, from 0."""

    count: int = 1
    rank: int = 0
    accelerator: Accelerator | None = None
    shards: Any = None
    """accelerate's settings of FSDP2, where each process keeps a part of the base models (`sharding.py`)."""

    @property
    def main(self) -> bool:
        """Whether this is the one that writes files."""
        return self.rank == 0

    def wrapped(self, module: Modules, apart: Collection[nn.Parameter] = (), told: bool = True) -> nn.Module:
        """The module to call in training: one whose gradients are the mean over the processes'. apart: parameters that
        no backward pass reaches; torch fails where all that it would exchange together are such. told: the rows tell
        the answers. E0649 where its base models cannot be kept in shards, and are asked to be."""
        if self.accelerator is None:
            return module
        module.to(self.accelerator.device)
        if self.shards is not None:
            from masc.backends.torch.training.sharding import shard

            shard(module, self.shards, told)
            frozen = [name for name, parameter in module.named_parameters() if not parameter.requires_grad]
            own: Any = nn.parallel.DistributedDataParallel
            own._set_params_and_buffers_to_ignore_for_model(module, frozen)
        device = self.accelerator.device
        ids = None if device.type == "cpu" else [device]
        for parameter in apart:  # what has no gradient when it is made is not exchanged
            parameter.requires_grad_(False)
        try:
            if not any(parameter.requires_grad for parameter in module.parameters()):
                return module
            return nn.parallel.DistributedDataParallel(module, device_ids=ids, find_unused_parameters=True)
        finally:
            for parameter in apart:
                parameter.requires_grad_(True)

    def exchanging(self, module: nn.Module, last: bool) -> AbstractContextManager[None]:
        """Within it gradients are exchanged only if it is the last batch of a step."""
        if last or not isinstance(module, nn.parallel.DistributedDataParallel):
            return nullcontext()
        return module.no_sync()

    def reduced(self, tensor: Tensor, how: Literal["sum", "mean"]) -> Tensor:
        """The sum or mean of a tensor over the processes, each of which must take part."""
        if self.accelerator is None:
            return tensor
        found: Tensor = self.accelerator.reduce(tensor, how)
        return found

    def added(self, number: int) -> int:
        """The sum of a whole number over the processes, each of which must take part."""
        if self.accelerator is None:
            return number
        return int(self.reduced(torch.tensor(number, device=self.accelerator.device), "sum"))

    def wait(self) -> None:
        """Until all processes have come this far."""
        if self.accelerator is not None:
            self.accelerator.wait_for_everyone()


def processes(device: torch.device) -> Processes:
    """Those of this run, whose programs lie on such a device."""
    if os.environ.get("WORLD_SIZE", "1") == "1" and not torch.distributed.is_initialized():
        return Processes()
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=device.type == "cpu")
    from masc.backends.torch.training.sharding import asked

    return Processes(accelerator.num_processes, accelerator.process_index, accelerator, asked(accelerator))
