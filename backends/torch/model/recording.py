"""Work that is recorded once and then replayed as one launch: CUDA graphs.

A pass of a large model launches some thousand kernels, each of which costs the processor longer than it costs the GPU.
A graph holds them all, with the addresses of what they read and write: it serves as long as those tensors stay where
they are, and shapes are the same.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor

Made = Sequence[Tensor | None]
Work = Callable[[], Made]
"""What launches the same kernels each time, and makes some tensors."""


@dataclass(frozen=True)
class Recorded:
    """replay: does the work again, on what stands now in the tensors that it reads; made: where it leaves
    what it makes, until the next replay."""

    replay: Callable[[], None]
    made: Made


def attempt(recorder: Recorder, work: Work) -> Recorded | None:
    """Record work; None, with a warning, where that cannot be done: it runs as it is, only slower."""
    try:
        return recorder.record(work)
    except RuntimeError as error:
        cause = error.__context__ or error
        what = str(cause).splitlines()[0] if str(cause) else type(cause).__name__
        warnings.warn(f"what runs on the GPU could not be recorded, and will be launched anew: {what}", stacklevel=2)
        return None


class Recorder:
    """Records work on a GPU. All that it records shares memory: of what a replay has computed nothing but what it made
    is there after the next one."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        with torch.cuda.device(device):
            self._memory = torch.cuda.graph_pool_handle()
            self._aside = torch.cuda.Stream()  # the usual one cannot be recorded

    def record(self, work: Work) -> Recorded:
        """Record work; nothing is computed yet. It must have run before, outside: what it sets up the first time cannot
        be set up within. Nothing in it may ask the device for a number."""
        with torch.cuda.device(self._device):
            graph, here = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
            self._aside.wait_stream(here)
            with torch.cuda.stream(self._aside):
                graph.capture_begin(pool=self._memory, capture_error_mode="thread_local")
                try:
                    made = work()
                finally:
                    self._end(graph)
            here.wait_stream(self._aside)
        return Recorded(graph.replay, made)

    def _end(self, graph: torch.cuda.CUDAGraph) -> None:
        """Stop recording. Where that fails, torch goes on to take what is allocated for this graph's: it is told."""
        try:
            graph.capture_end()
        except RuntimeError:
            with suppress(RuntimeError):
                torch._C._cuda_endAllocateToPool(self._device.index or 0, self._memory)
            raise
