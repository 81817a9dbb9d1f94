"""Which tensors the safetensors files of a folder hold, by their headers: names, shapes and types of numbers. No weight
is read.

Format: https://github.com/huggingface/safetensors#format. The library itself says whether a header holds together; what
is done here is to find the files, as transformers does, and to say in words what is wrong with one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from masc.compiler.files.reading import read_json
from masc.compiler.models.folder.finding import Finding, some
from masc.dsl.diagnostics import first_line

ONE, INDEX = "model.safetensors", "model.safetensors.index.json"
_AGAIN = "copy or fetch the model again"
_POINTER = b"version https://git-lfs"


@dataclass(frozen=True)
class Tensor:
    """shape; dtype as safetensors names it (`BF16`); the file that it stands in."""

    shape: tuple[int, ...]
    dtype: str
    file: str


Tensors = Mapping[str, Tensor]


def read_headers(folder: Path) -> tuple[Tensors | None, list[Finding]]:
    """The tensors of a folder (None: not all of its files could be read), and what is wrong with the files."""
    names, found = _files(folder)
    held: dict[str, Tensor] = {}
    twice: list[str] = []
    for name in names or ():
        tensors, wrong = tensors_of(folder / name)
        found += wrong
        twice += [tensor for tensor in tensors if tensor in held]
        held |= tensors
    if twice:
        found.append(Finding("E0530", f"holds {some(twice)} in two of its files", _AGAIN))
    return (None if names is None or any(f.code == "E0531" for f in found) else held), found


def whole(folder: Path) -> bool:
    """Whether all files of weights are there: a download that was cut off may have left the config only."""
    return _files(folder)[0] is not None


def weight_files(folder: Path) -> list[str]:
    """The names of the files that hold the weights of a folder; empty where they are not all there."""
    return _files(folder)[0] or []


def _files(folder: Path) -> tuple[list[str] | None, list[Finding]]:
    """The names of the weight files: one, or those that the index names."""
    if (folder / ONE).exists():
        return [ONE], []
    if not (folder / INDEX).exists():
        return None, [_nothing(folder)]
    try:
        index = read_json(folder / INDEX)
        names = sorted({str(name) for name in index["weight_map"].values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return None, [Finding("E0531", f"has an index of its weights that cannot be read: `{INDEX}`: {error}", _AGAIN)]
    if not names:
        return None, [Finding("E0531", f"has an index that names no weights: `{INDEX}`", _AGAIN)]
    gone = [name for name in names if not (folder / name).exists()]
    if gone:
        return None, [Finding("E0531", f"lacks files that `{INDEX}` names: {some(gone)}", _AGAIN)]
    return names, []


def _nothing(folder: Path) -> Finding:
    """What is said where there are no weights under the names that they must have."""
    names = sorted(path.name for path in folder.iterdir())
    if leads_nowhere := [n for n in names if n in (ONE, INDEX) and (folder / n).is_symlink()]:
        return Finding("E0532", f"has no weights: {some(leads_nowhere)} is a link that leads nowhere", _AGAIN)
    if pickles := [n for n in names if n.endswith((".bin", ".pt", ".pth", ".ckpt")) and n != "training_args.bin"]:
        message = f"has its weights in {some(pickles)}: pickle files can run code, so masc reads none"
        save = "in an environment that you trust: `AutoModelForCausalLM.from_pretrained(d).save_pretrained(d)`"
        return Finding("E0532", message, f"use a version of it with `{ONE}`, or write one {save}")
    if others := [n for n in names if n.endswith((".gguf", ".ggml", ".h5", ".msgpack", ".onnx", ".npz"))]:
        hint = f"it reads `{ONE}`"
        if (name := others[0]).endswith(".gguf"):
            hint += f", which `masc models convert {name}` writes"
        return Finding("E0532", f"has its weights in {some(others)}, which masc does not read", hint)
    if shards := [n for n in names if n.endswith(".safetensors")]:
        message = f"has weights under names that are never looked for: {some(shards)}"
        return Finding("E0532", message, f"weights lie in `{ONE}`, or in files that `{INDEX}` names")
    return Finding("E0532", f"has no weights: there is no `{ONE}` in its folder")


def tensors_of(path: Path) -> tuple[dict[str, Tensor], list[Finding]]:
    """The tensors of one file, or what is wrong with it."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():  # a pipe would be waited for
        return {}, [Finding("E0531", f"has weights that are not a regular file: `{path.name}`", _AGAIN)]
    try:
        with safe_open(str(path), framework="numpy") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
            tensors = {n: Tensor(tuple(s.get_shape()), str(s.get_dtype()), path.name) for n, s in slices.items()}
            return tensors, []
    except (SafetensorError, OSError, ValueError, TypeError) as error:
        return {}, [Finding("E0531", f"has weights that cannot be read: `{path.name}` {_why(path, error)}", _AGAIN)]


def _why(path: Path, error: Exception) -> str:
    """What is wrong with a file that the library refuses."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(len(_POINTER))
            length = int.from_bytes(start[:8], "little")
            file.seek(8)
            text = file.read(length) if 8 + length <= size and length < 1 << 28 else None
    except OSError as refused:
        return f"may not be read: {refused.strerror or refused}"
    if start == _POINTER:
        return "is a pointer of Git LFS, not the weights themselves: `git lfs pull` fetches them"
    if start.lstrip()[:1] in (b"<", b"{"):
        return "is no safetensors file but a text, such as a failed download leaves"
    if size < 8 or (text is None and length < 1 << 28):
        return f"is cut off: it has {size:,} bytes, less than its header"
    if text is not None and (whole := _whole_size(text)) is not None and whole != size:
        return f"is {'cut off' if size < whole else 'too long'}: it has {size:,} bytes, and should have {whole:,}"
    return f"is no safetensors file: {first_line(error)}"


def _whole_size(text: bytes) -> int | None:
    """How many bytes a file with this header should have; None where the header does not say."""
    try:
        header: Any = json.loads(text)
        ends = [int(tensor["data_offsets"][1]) for name, tensor in header.items() if name != "__metadata__"]
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        return None
    return 8 + len(text) + max(ends, default=0)
