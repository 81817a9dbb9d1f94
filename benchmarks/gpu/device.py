"""The device: its name, its ceilings, time and memory of a call, what a call launches; models made on it."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from dispatched import count
from random_models import Shape, random_model, tokenizer
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

import masc.backends.torch.model.base as base_module
from masc.backends.torch.model.attention import NAME

WAITING = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")
LAUNCHING = ("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx", "cudaGraphLaunch")


class Device:
    """A GPU, or the CPU (to try the script). name: torch's (`cuda`, `cpu`); folder: where models are written."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder, self.cuda = name, folder, name.startswith("cuda")

    @property
    def card(self) -> str:
        return torch.cuda.get_device_name(self.name) if self.cuda else "CPU"

    def wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize(self.name)

    def milliseconds(self, call: Callable[[], object]) -> float:
        """Of one call, by events of the device."""
        if not self.cuda:
            began = time.perf_counter()
            call()
            return 1000 * (time.perf_counter() - began)
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.wait()
        first.record()
        call()
        last.record()
        self.wait()
        return float(first.elapsed_time(last))

    def median(
        self, call: Callable[[], object], times: int, warm: int = 1, before: Callable[[], object] = lambda: None
    ) -> float:
        """Milliseconds of a call, the median of several after some to warm up. before: called before each, untimed."""
        taken = []
        for _ in range(warm + times):
            before()
            taken.append(self.milliseconds(call))
        return statistics.median(taken[warm:])

    def peak(self, call: Callable[[], object]) -> float | None:
        """Bytes that a call takes at most beside what is taken already; None: a CPU does not tell."""
        if not self.cuda:
            call()
            return None
        self.wait()
        torch.cuda.reset_peak_memory_stats(self.name)
        before = torch.cuda.memory_allocated(self.name)
        call()
        self.wait()
        return float(torch.cuda.max_memory_allocated(self.name) - before)

    def bandwidth(self) -> float:
        """Bytes a second of a copy within its memory, those read and those written."""
        size = 1 << (32 if self.cuda else 24)
        source = torch.randint(0, 255, (size,), dtype=torch.uint8, device=self.name)
        target = torch.empty_like(source)
        return 2000 * size / self.median(lambda: target.copy_(source), 10, 3)

    def rate(self) -> float:
        """FLOPs a second of a bf16 product of two square matrices of random numbers."""
        size = 8192 if self.cuda else 256
        left, right = (torch.randn(size, size, dtype=torch.bfloat16, device=self.name) for _ in range(2))
        return 2000 * size**3 / self.median(lambda: left @ right, 10, 3)

    def launched(self, call: Callable[[], object]) -> dict[str, float]:
        """What a call makes the device do. kernels: that ran on it; launches: calls that started some, of which a graph
        starts many; waits: calls in which the processor waited. On a CPU: operations that are no views."""
        if not self.cuda:
            found = count(call)
            return {"kernels": found.kernels, "launches": found.kernels, "waits": found.waits}
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as trace:
            call()
            self.wait()
        events = list(trace.events() or [])
        device = [e.name for e in events if e.device_type == DeviceType.CUDA]
        return {
            "kernels": sum(not name.startswith(("Memcpy", "Memset")) for name in device),
            "launches": sum(e.name in LAUNCHING for e in events),
            "waits": sum(e.name in WAITING for e in events) - 1,  # the one above
        }


def empty_folder(folder: Path, shape: Shape) -> Path:
    """A model's folder as masc looks at it: config, tokenizer, and the header of weights that are not there (the file
    has a hole, which takes no room)."""
    folder.mkdir(parents=True, exist_ok=True)
    config = shape.config(dtype="bfloat16", architectures=[type_name(shape)])
    config.save_pretrained(folder)
    tokenizer(shape.vocabulary).save_pretrained(folder)
    named = random_model(shape, torch.bfloat16, device="meta").state_dict()
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in named.items():
        if shape.tied and name == "lm_head.weight":
            continue
        size = tensor.numel() * 2
        header[name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
    return folder


def type_name(shape: Shape) -> str:
    return {"llama": "LlamaForCausalLM", "qwen3": "Qwen3ForCausalLM"}[shape.kind]


def sharing(model: Any, attention: str = "sdpa") -> Any:
    """A model of its own over the same tensors."""
    memo = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    made = deepcopy(model, memo)
    made.config._attn_implementation = attention
    return made


@contextmanager
def loading(model: Any, shape: Shape) -> Iterator[None]:
    """Within it, whatever masc loads is this model: its tensors stay where they are, and are in memory once."""
    known = base_module.loaded

    def read(folder: Path, *_: Any) -> tuple[Any, Any]:
        return sharing(model, NAME), tokenizer(shape.vocabulary)

    base_module.loaded = read
    try:
        yield
    finally:
        base_module.loaded = known
