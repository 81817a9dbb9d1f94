"""Tensors as the bytes of a safetensors file, and back: only what is expected, to the shape."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load, save
from torch import Tensor

_WIDE = (torch.float32, torch.float64)
_NARROW = (torch.float16, torch.bfloat16)


def pack(tensors: Mapping[str, Tensor]) -> bytes:
    """The bytes of a safetensors file, the same for the same tensors. Written by `atomic_write`, it gets the usual
    permissions, which `save_file` does not give."""
    found = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return save(found, metadata={"format": "pt"})


def unpack(data: bytes, expected: Mapping[str, Tensor], widened: bool = False) -> dict[str, Tensor]:
    """The tensors of a safetensors file. ValueError where it is damaged, where names, shapes or types are not those
    expected (float32 and float64 stand for each other), or where a number is not finite. Nothing is broadcast.
    widened: narrow types are taken, too, as float32."""
    try:
        found = load(data)
    except Exception as error:  # safetensors has its own kinds of errors
        raise ValueError(f"it is no safetensors file: {error}") from None
    if missing := sorted(set(expected) - set(found)):
        raise ValueError(f"`{missing[0]}` is missing")
    if unknown := sorted(set(found) - set(expected)):
        raise ValueError(f"it holds `{unknown[0]}`, which this graph has not")
    if widened:  # which loses nothing
        found = {name: tensor.float() if tensor.dtype in _NARROW else tensor for name, tensor in found.items()}
    for name, tensor in found.items():
        check_tensor(name, tensor, expected[name])
    return found


def check_tensor(name: str, tensor: Tensor, wanted: Tensor) -> None:
    """ValueError where a tensor cannot take the place of another."""
    if tensor.shape != wanted.shape:
        raise ValueError(f"`{name}` is of shape {list(tensor.shape)}, not {list(wanted.shape)}")
    if tensor.dtype != wanted.dtype and not (tensor.dtype in _WIDE and wanted.dtype in _WIDE):
        raise ValueError(f"`{name}` is of type {_short(tensor.dtype)}, not {_short(wanted.dtype)}")
    if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
        raise ValueError(f"`{name}` holds numbers that are not finite")


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def file_of(source: Path | Mapping[str, bytes], name: str) -> bytes:
    """One of some files: in a folder, or by its path. OSError, ValueError where it is not there."""
    if isinstance(source, Path):
        return (source / name).read_bytes()
    if name not in source:
        raise ValueError(f"there is no `{name}`")
    return source[name]
