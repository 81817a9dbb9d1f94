"""Work that is recorded once and then replayed as one launch: CUDA graphs.

A pass of a large model launches some thousand kernels, each of which costs the processor longer than it costs the GPU.
A graph holds them all, with the addresses of what they read and write: it serves as long as those tensors stay where
they are, and shapes are the same.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Work = Callable[[], Sequence[Tensor | None]]


@dataclass(frozen=True)
class Recorded:
    """replay: does the work again, on what stands now in the tensors that it reads; outputs: where it leaves what it
    makes."""

    replay: Callable[[], None]
    outputs: tuple[Tensor | None, ...]


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
    """Records work on a GPU. What it records in turn shares memory: it may be replayed in the order in which it was
    recorded, and none of it is looked at after the next one but its outputs."""

    def __init__(self) -> None:
        self._memory = torch.cuda.graph_pool_handle()
        self._aside = torch.cuda.Stream()  # the backward pass of what ran on a stream runs there, too

    def record(self, work: Work) -> Recorded:
        """Record work; nothing is computed yet. It must have run before, outside: what it sets up the first time cannot
        be set up within. Nothing in it may ask the device for a number."""
        graph, here = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
        self._aside.wait_stream(here)
        with torch.cuda.stream(self._aside):
            graph.capture_begin(pool=self._memory, capture_error_mode="thread_local")
            try:
                outputs = tuple(work())
            finally:
                graph.capture_end()
        here.wait_stream(self._aside)
        return Recorded(graph.replay, outputs)
