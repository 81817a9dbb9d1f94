"""How many numbers are trained: counted from a model's `config.json`, without loading the model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from masc.compiler.ir.adapter import Lora
from masc.compiler.models.facts import ALLOWED, ModelFacts, Shapes
from masc.compiler.models.families import family_of
from masc.compiler.models.peft import projections_of


def projections(folder: Path, facts: ModelFacts) -> Shapes | None:
    """The projections of each block of the model in a folder whose blocks have the seven of llama; None where its type
    or its config.json does not say."""
    return linears(folder, facts) if family_of(facts.model_type).seven else None


def linears(folder: Path, facts: ModelFacts) -> Shapes | None:
    """The same of all types whose projections are told, first those of attention."""
    try:
        config: Any = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        inner = {**config, **(config.get("text_config") or {})}["intermediate_size"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    parts = family_of(facts.model_type).parts
    if facts.model_type not in ALLOWED or parts is None or not isinstance(inner, int):
        return None
    (*reading, out), (*widening, down) = parts
    hidden, heads, kv = facts.hidden, facts.heads * facts.head_dim, facts.kv_heads * facts.head_dim
    widths = (heads, kv, kv) if len(reading) > 1 else (heads + 2 * kv,)
    attention = {name: (hidden, width) for name, width in zip(reading, widths, strict=True)} | {out: (heads, hidden)}
    wide = {name: (hidden, 2 * inner if name == "gate_up_proj" else inner) for name in widening}
    return attention | wide | {down: (inner, hidden)}


def ranks_of(lora: Lora | None, shapes: Shapes) -> dict[str, int]:
    """The rank of an adapter at each projection on which it sits; empty: there is none."""
    if lora is None:
        return {}
    return {name: lora.rank for name in shapes if "all" in lora.targets or name in projections_of(lora.targets)}


def lora_size(shapes: Shapes, layers: int, lora: Lora) -> int:
    """The parameters of an adapter for a model with these projections in each of so many layers."""
    own = ((rank, *shapes[name]) for name, rank in ranks_of(lora, shapes).items())
    return layers * sum(rank * (into + out) + out * lora.dora for rank, into, out in own)
