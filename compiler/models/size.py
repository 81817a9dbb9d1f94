"""How many numbers are trained: counted from a model's `config.json`, without loading the model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from masc.compiler.ir.plan import Lora
from masc.compiler.models.facts import ALLOWED, ModelFacts

_ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
_MLP = ("gate_proj", "up_proj", "down_proj")

Shapes = Mapping[str, tuple[int, int]]
"""The linear projections of a block by name: how many numbers go in, and how many come out."""


def projections(folder: Path, facts: ModelFacts) -> Shapes | None:
    """The projections of each block of the model in a folder; None where its type or its config.json does not say."""
    try:
        config: Any = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        inner = {**config, **(config.get("text_config") or {})}["intermediate_size"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if facts.model_type not in ALLOWED or not isinstance(inner, int):
        return None
    hidden, heads, kv = facts.hidden, facts.heads * facts.head_dim, facts.kv_heads * facts.head_dim
    attention = {"q_proj": (hidden, heads), "k_proj": (hidden, kv), "v_proj": (hidden, kv), "o_proj": (heads, hidden)}
    return attention | {"gate_proj": (hidden, inner), "up_proj": (hidden, inner), "down_proj": (inner, hidden)}


def lora_size(shapes: Shapes, layers: int, lora: Lora) -> int:
    """The parameters of an adapter: two matrices of its rank at each of its projections in each layer, and with DoRA a
    length for each number that comes out."""
    groups = {"all": tuple(shapes), "attention": _ATTENTION, "mlp": _MLP}
    names = {name for target in lora.targets for name in groups.get(target, (target,))}
    sizes = (lora.rank * sum(shapes[name]) + lora.dora * shapes[name][1] for name in names if name in shapes)
    return layers * sum(sizes)
