"""How many numbers are trained: counted from a model's `config.json`, without loading the model."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Any

from masc.compiler.ir.adapter import Lora
from masc.compiler.models.facts import ALLOWED, ModelFacts, Shapes
from masc.compiler.models.families import family_of
from masc.compiler.models.peft import tensors_for


def projections(folder: Path, facts: ModelFacts) -> Shapes | None:
    """The projections of each block of the model in a folder; None where its type or its config.json does not say."""
    try:
        config: Any = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        inner = {**config, **(config.get("text_config") or {})}["intermediate_size"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    if facts.model_type not in ALLOWED or not family_of(facts.model_type).seven or not isinstance(inner, int):
        return None
    hidden, heads, kv = facts.hidden, facts.heads * facts.head_dim, facts.kv_heads * facts.head_dim
    attention = {"q_proj": (hidden, heads), "k_proj": (hidden, kv), "v_proj": (hidden, kv), "o_proj": (heads, hidden)}
    return attention | {"gate_proj": (hidden, inner), "up_proj": (hidden, inner), "down_proj": (inner, hidden)}


def lora_size(shapes: Shapes, layers: int, lora: Lora) -> int:
    """The parameters of an adapter for a model with these projections in each of so many layers."""
    return layers * sum(prod(shape) for _, shape in tensors_for(lora, shapes, layers=1))
