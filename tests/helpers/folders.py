"""Model folders that hold what a look at them needs: no weights but their headers, over files with holes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from masc.compiler.models.facts import read_config
from masc.compiler.models.folder.tensors import KNOWN, expected
from masc.compiler.models.peft import read_adapter, tensors_for
from masc.compiler.models.size import projections

_WIDTH = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I8": 1, "U8": 1, "F8_E4M3": 1}


def write_weights(path: Path, shapes: Mapping[str, tuple[int, ...]], dtype: str = "F32") -> None:
    """A safetensors file with these tensors, all zero."""
    header: dict[str, Any] = {}
    at = 0
    for name, shape in shapes.items():
        end = at + prod(shape) * _WIDTH[dtype]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + at)


def shapes_of(folder: Path) -> dict[str, tuple[int, ...]]:
    """The tensors that a folder's config.json asks for."""
    return expected(json.loads((folder / "config.json").read_text()), read_config(folder))


def fill(folder: Path) -> Path:
    """Beside a config.json all else that a model folder must hold."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    known = read_config(folder).model_type in KNOWN
    write_weights(folder / "model.safetensors", shapes_of(folder) if known else {"model.norm.weight": (1,)})
    if (folder / "tokenizer.json").exists():
        return folder
    tokenizer = Tokenizer(
        models.BPE(vocab={c: i for i, c in enumerate(pre_tokenizers.ByteLevel.alphabet())}, merges=[])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def fill_adapter(folder: Path, model: Path) -> Path:
    """Beside an adapter_config.json the headers of its weights, for a model."""
    facts, says = read_config(model), read_adapter(folder)
    shapes = projections(model, facts)
    assert shapes is not None
    write_weights(folder / "adapter_model.safetensors", dict(tensors_for(says.lora, shapes, facts.layers)))
    return folder
