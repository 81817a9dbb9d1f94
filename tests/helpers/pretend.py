"""Several devices on a machine that has none: tensors that say where they are, on `cpu:1` or `cpu:2`, and operations
that refuse tensors of different places as a GPU's do. What they hold is computed on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

MOVES = {"_to_copy", "copy_", "index", "index_put", "index_put_", "_unsafe_index"}
"""What takes tensors of several places: what moves them, and what takes indices that the host knows."""
NOWHERE = torch.device("cpu")
"""What is not placed: the host's."""


class Placed(Tensor):
    """A tensor that says that it is somewhere."""

    held: Tensor
    place: torch.device

    @staticmethod
    def __new__(cls, held: Tensor, place: torch.device | str) -> Placed:
        sizes: Any = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        made: Placed = Tensor._make_wrapper_subclass(cls, held.size(), device="cpu", **sizes)  # type: ignore[attr-defined]
        made.held, made.place = held, torch.device(place)
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self.place

    def tolist(self) -> Any:
        return self.held.tolist()

    def numpy(self, **options: Any) -> Any:
        return self.held.numpy(**options)

    def data_ptr(self) -> int:
        return self.held.data_ptr()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _done(func, args, kwargs or {})


def _place(tensor: Tensor) -> torch.device:
    return tensor.place if isinstance(tensor, Placed) else NOWHERE


def _done(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name, wanted = func._overloadpacket.__name__, kwargs.get("device")
    tensors: list[Tensor] = []

    def held(one: Tensor) -> Tensor:
        tensors.append(one)
        return one.held if isinstance(one, Placed) else one

    bare, said = _changed(args, held), _changed(kwargs, held)
    where = {_place(one) for one in tensors if one.dim()}  # a number may come from anywhere
    if len(where) > 1 and name not in MOVES:
        raise RuntimeError(f"{name} of tensors on {sorted(map(str, where))}")
    if wanted is not None:
        there = torch.device(wanted)
    elif name in MOVES or not where:
        there = next((_place(one) for one in tensors), NOWHERE)
    else:
        (there,) = where
    known = {id(one.held): one for one in tensors if isinstance(one, Placed)}
    out = func(*bare, **said | ({} if wanted is None else {"device": NOWHERE}))

    def put(one: Tensor) -> Tensor:
        if there == NOWHERE or isinstance(one, Placed):
            return one
        return known[id(one)] if id(one) in known else Placed(one, there)

    return _changed(out, put)


def _changed(one: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """With every tensor in it changed."""
    if isinstance(one, Tensor):
        return change(one)
    if isinstance(one, list | tuple):
        return type(one)([_changed(part, change) for part in one])
    return {name: _changed(part, change) for name, part in one.items()} if isinstance(one, dict) else one


class _Pretending(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _done(func, args, kwargs or {})


class _Made(TorchFunctionMode):
    """`torch.tensor` asks for no operation of the device that it is given."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        said = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor) and getattr(said.get("device"), "index", None) is not None:
            place = said.pop("device")
            return Placed(func(*args, **said), place)
        return func(*args, **said)


@contextmanager
def pretending() -> Iterator[None]:
    """Within it `cpu:1` and `cpu:2` are devices. No gradients."""
    with _Made(), _Pretending(), torch.no_grad():
        yield


def placed(module: torch.nn.Module, place: str) -> None:
    """Put what a module holds somewhere, in place. Within `pretending`."""
    for one in module.modules():
        for held in (one._parameters, one._buffers):
            for name, tensor in held.items():
                if tensor is not None and not isinstance(tensor, Placed):
                    held[name] = Placed(tensor.data, place)  # type: ignore[assignment]
