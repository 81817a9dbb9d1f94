"""A frozen base in shards: each process keeps a part of every block's weights, and has the whole of a block only while
that block is computed (FSDP2). Adapters and links stay whole in each process.

torch brings a block's weights back in the backward pass once a gradient comes to the block's output. In a graph of
agents it may come to a block's keys and values first, or to these alone, through a later agent that sees them. So here
the weights are brought back once a gradient comes to what any module of the block has made.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard

from masc.backends.torch.engine.modules import Modules
from masc.backends.torch.model.base import Base
from masc.dsl.diagnostics import fail

if TYPE_CHECKING:
    from accelerate import Accelerator


def asked(accelerator: Accelerator) -> Any:
    """accelerate's settings of FSDP2, by its configuration file or the environment; None: there are none. E0649 where
    another way of splitting a model is asked for, which masc does not know."""
    said = accelerator.distributed_type.value
    if said in ("DEEPSPEED", "MEGATRON_LM"):
        raise fail(
            "E0649",
            f"`distributed_type: {said}` is no way in which masc trains",
            hint="plain processes (`MULTI_GPU`), or `FSDP` with `fsdp_version: 2`",
        )
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() != "true":
        return None
    from accelerate import FullyShardedDataParallelPlugin

    # On CPUs accelerate reads the settings, and then trains as if there were none.
    plugin = getattr(accelerator.state, "fsdp_plugin", None) or FullyShardedDataParallelPlugin()
    if plugin.fsdp_version != 2:
        raise fail(
            "E0649",
            f"FSDP of version {plugin.fsdp_version} wraps a model as a whole, which leaves adapters without gradients",
            hint="write `fsdp_version: 2` into the `fsdp_config` of accelerate's configuration file",
        )
    return plugin


def shard(program: Modules, plugin: Any, told: bool = True) -> None:
    """Keep a part of the blocks of each base model in each process, in place. plugin: accelerate's settings
    (`reshard_after_forward`, `cpu_offload`); told: the rows tell the answers (else they are sampled). E0649 where
    weights are quantised, or an answer is decoded in training: processes whose answers are not equally long would wait
    for each other for ever."""
    decoded = program.plan.unsupervised() if told else program.plan.answering
    if decoded:
        raise fail(
            "E0649",
            f"`{decoded[0].agent}` decodes an answer in training, and with a base in shards (FSDP) all processes must "
            "run equally many passes",
            hint=("give its answer a column, or " if told else "") + "train in plain processes (`MULTI_GPU`)",
        )
    for base in program.models:
        if any(not parameter.is_floating_point() for parameter in base.model.parameters()):
            raise fail(
                "E0649",
                f"the weights of the model in `{base.folder}` are quantised, and no part of them can be taken",
                hint="`load = bfloat16`, or train in plain processes (`MULTI_GPU`)",
            )
    for base in program.models:
        _shard(base, plugin)


def _shard(base: Base, plugin: Any) -> None:
    base.sharded = True
    kept = {parameter for name, parameter in base.model.named_parameters() if ".lora_" in name}
    offload = {} if plugin.cpu_offload is None else {"offload_policy": plugin.cpu_offload}
    for block in base.model.get_decoder().layers:
        fully_shard(block, reshard_after_forward=bool(plugin.reshard_after_forward), ignored_params=kept, **offload)
        for module in block.modules():
            if module is not block and next(module.parameters(recurse=False), None) is not None:
                module.register_forward_hook(partial(_brought_back, block))


def _brought_back(block: FSDPModule, module: nn.Module, given: Any, made: Any) -> None:
    """Let a gradient that comes to what a module made bring its block's weights back, before it goes further."""

    def bring(gradient: Tensor) -> None:
        block.unshard()

    for tensor in made if isinstance(made, tuple) else (made,):
        if isinstance(tensor, Tensor) and tensor.requires_grad:
            tensor.register_hook(bring)


def frozen_bytes(base: Base) -> int:
    """Bytes of the frozen weights that this process keeps."""
    found = 0
    for parameter in base.model.parameters():
        if not parameter.requires_grad:
            own = parameter.to_local() if hasattr(parameter, "to_local") else parameter
            found += own.numel() * own.element_size()
    return found
