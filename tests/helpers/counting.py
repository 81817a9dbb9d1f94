"""What torch is asked to do, counted: operations dispatched, and how often the host waits for numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class _Counting(TorchDispatchMode):
    def __init__(self, found: Counter[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.found[str(func)] += 1
        return func(*args, **(kwargs or {}))


SYNCS = ("tolist", "item", "__bool__", "__int__", "__float__", "__index__", "numpy", "cpu")
"""Methods by which the host waits for a device."""


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Operations by name, and under `sync` how often this program asked for a tensor's numbers."""
    found: Counter[str] = Counter()
    patches = []

    def watched(name: str) -> Any:
        own = getattr(torch.Tensor, name)

        def call(self: torch.Tensor, *args: Any, **options: Any) -> Any:
            found["sync"] += 1
            return own(self, *args, **options)

        return call

    for name in SYNCS:
        patches.append(patch.object(torch.Tensor, name, watched(name)))
    for one in patches:
        one.start()
    try:
        with _Counting(found):
            yield found
    finally:
        for one in patches:
            one.stop()


def operations(found: Counter[str]) -> int:
    return sum(count for name, count in found.items() if name != "sync")
