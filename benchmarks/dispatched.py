"""What a call makes torch do: operations dispatched, waits for the device, rows that go through a layer."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "helpers"))
from counting import counted, operations

VIEWS = (
    *(
        "view",
        "_unsafe_view",
        "expand",
        "t",
        "transpose",
        "permute",
        "slice",
        "select",
        "unsqueeze",
        "squeeze",
        "alias",
    ),
    *("detach", "split", "split_with_sizes", "unbind", "as_strided", "reshape", "_reshape_alias", "lift_fresh"),
)
"""Operations that compute nothing: no kernel is launched for them."""


@dataclass(frozen=True)
class Counted:
    """operations: dispatched to a backend, views among them; kernels: those without views; waits: for the device."""

    operations: int
    kernels: int
    waits: int

    def __sub__(self, other: Counted) -> Counted:
        return Counted(self.operations - other.operations, self.kernels - other.kernels, self.waits - other.waits)


def count(call: Callable[[], object]) -> Counted:
    """Of this thread, the backward pass included."""
    with counted() as found:
        call()
    views = sum(number for name, number in found.items() if name.split(".")[1:2] and name.split(".")[1] in VIEWS)
    return Counted(operations(found), operations(found) - views, found["sync"])


class _Rows(TorchDispatchMode):
    def __init__(self, inner: int, width: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.inner, self.width, self.rows = inner, width, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in {"mm", "addmm", "bmm", "baddbmm", "linear", "matmul", "_scaled_mm", "_linear_pointwise"}:
            left = args[1] if name in {"addmm", "baddbmm"} else args[0]
            if left.shape[-1] == self.inner and out.shape[-1] == self.width:
                self.rows += left.numel() // self.inner
        return out


def rows_through(call: Callable[[], object], inner: int, width: int, layers: int) -> int:
    """How many positions, padding and rows that are done among them, go through each layer: those that its down
    projection [width, inner] is multiplied with. inner, width: sizes that nothing else has."""
    mode = _Rows(inner, width)
    with torch.no_grad(), mode:
        call()
    return mode.rows // layers
