"""How many numbers are trained: counted from a model's `config.json`, without loading the model."""

from __future__ import annotations

from pathlib import Path

from masc.compiler.files.reading import read_json
from masc.compiler.ir.adapter import Lora
from masc.compiler.models.facts import ALLOWED, ModelFacts, Shapes, of_text, sized
from masc.compiler.models.families import family_of
from masc.compiler.models.peft import numbers_at, projections_of


def projections(folder: Path, facts: ModelFacts) -> Shapes | None:
    """The projections of each block of the model in a folder whose blocks have the seven of llama; None where its type
    or its config.json does not say."""
    return linears(folder, facts) if family_of(facts.model_type).seven else None


def linears(folder: Path, facts: ModelFacts) -> Shapes | None:
    """The same of all types whose projections are told, first those of attention."""
    parts = family_of(facts.model_type).parts
    if facts.model_type not in ALLOWED or parts is None:
        return None
    (*reading, out), mlp = parts
    hidden, heads, kv = facts.hidden, facts.heads * facts.head_dim, facts.kv_heads * facts.head_dim
    widths = (heads, kv, kv) if len(reading) > 1 else (heads + 2 * kv,)
    attention = {name: (hidden, width) for name, width in zip(reading, widths, strict=True)} | {out: (heads, hidden)}
    if not mlp:
        return attention
    try:
        inner = sized(of_text(read_json(folder / "config.json")), family_of(facts.model_type).inner)
    except (OSError, ValueError, AttributeError):
        return None
    if inner is None:
        return None
    wide = {name: (hidden, 2 * inner if name == "gate_up_proj" else inner) for name in mlp[:-1]}
    return attention | wide | {mlp[-1]: (inner, hidden)}


def ranks_of(lora: Lora | None, shapes: Shapes) -> dict[str, int]:
    """The rank of an adapter at each projection on which it sits; empty: there is none."""
    if lora is None:
        return {}
    return {name: lora.rank for name in shapes if "all" in lora.targets or name in projections_of(lora.targets)}


def lora_size(shapes: Shapes, layers: int, lora: Lora) -> int:
    """The parameters of an adapter for a model with these projections in each of so many layers."""
    return layers * sum(numbers_at(lora, shapes[name]) for name in ranks_of(lora, shapes))
