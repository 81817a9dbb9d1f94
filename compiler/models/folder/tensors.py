"""Which tensors a model must have by its `config.json`, and how those that are there differ.

The names and shapes are those of transformers' own modules (`models/*/modeling_*.py`); a test holds them against these.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from masc.compiler.models.facts import ModelFacts
from masc.compiler.models.folder.finding import Finding, some
from masc.compiler.models.folder.headers import Tensors

Shape = tuple[int, ...]
_FLOATS = ("F64", "F32", "F16", "BF16")
EMBEDDING, _HEAD = "model.embed_tokens.weight", "lm_head.weight"
# Rotary frequencies are computed; older checkpoints hold them as well.
_HARMLESS = re.compile(r".*rotary_emb\.(inv_freq|original_inv_freq)\Z")
# What a config.json leaves out has the default of its own configuration class: rows of the embedding, width of the MLP.
_DEFAULTS = {
    "llama": (32000, 11008),
    "mistral": (32000, 14336),
    "qwen2": (151936, 22016),
    "qwen3": (151936, 22016),
    "gemma": (256000, 24576),
    "gemma3_text": (262208, 9216),
    "olmo2": (50304, 11008),
}
KNOWN = frozenset(_DEFAULTS)
"""The types whose tensors are known here; of the others the loading itself says what does not fit."""
_NORMS = {
    "gemma3_text": ("input", "post_attention", "pre_feedforward", "post_feedforward"),
    "olmo2": ("post_attention", "post_feedforward"),
}
_NO_ATTENTION_BIAS = ("mistral", "qwen2")  # qwen2 has them on q, k and v, whatever its config.json says


def expected(config: Mapping[str, Any], facts: ModelFacts) -> dict[str, Shape]:
    """The tensors of a model of a supported type by name. ValueError where config.json says no proper width."""
    kind, hidden = facts.model_type, facts.hidden
    vocabulary, inner = (_positive(config, n, d) for n, d in zip(_SIZES, _DEFAULTS[kind], strict=True))
    heads, kv = facts.heads * facts.head_dim, facts.kv_heads * facts.head_dim
    biased = bool(config.get("attention_bias")) and kind not in _NO_ATTENTION_BIAS
    on_mlp = kind == "llama" and bool(config.get("mlp_bias"))
    found: dict[str, Shape] = {EMBEDDING: (vocabulary, hidden), "model.norm.weight": (hidden,)}
    if not facts.tied:
        found[_HEAD] = (vocabulary, hidden)
    for layer in range(facts.layers):
        at = f"model.layers.{layer}."
        for name, out, into in (("q", heads, hidden), ("k", kv, hidden), ("v", kv, hidden), ("o", hidden, heads)):
            found[f"{at}self_attn.{name}_proj.weight"] = (out, into)
            if biased or (kind == "qwen2" and name != "o"):
                found[f"{at}self_attn.{name}_proj.bias"] = (out,)
        for name, out, into in (("gate", inner, hidden), ("up", inner, hidden), ("down", hidden, inner)):
            found[f"{at}mlp.{name}_proj.weight"] = (out, into)
            if on_mlp:
                found[f"{at}mlp.{name}_proj.bias"] = (out,)
        for name in _NORMS.get(kind, ("input", "post_attention")):
            found[f"{at}{name}_layernorm.weight"] = (hidden,)
        if kind in ("qwen3", "gemma3_text", "olmo2"):
            whole = kind == "olmo2"  # over all heads at once, where the others norm each head
            found[f"{at}self_attn.q_norm.weight"] = (heads if whole else facts.head_dim,)
            found[f"{at}self_attn.k_norm.weight"] = (kv if whole else facts.head_dim,)
    return found


_SIZES = ("vocab_size", "intermediate_size")


def _positive(config: Mapping[str, Any], name: str, default: int) -> int:
    value = config.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"`{name}` is {value!r}, not a positive whole number")
    return value


def compare(held: Tensors, wanted: Mapping[str, Shape], facts: ModelFacts) -> Iterator[Finding]:
    """How the tensors of a folder differ from those that its config.json asks for (E0530)."""
    named = {_full(name, wanted): tensor for name, tensor in held.items()}
    missing = [name for name in wanted if name not in named]
    if facts.tied and missing == [EMBEDDING] and _HEAD in named:  # either of the two is both
        missing = []
        wanted = {**wanted, _HEAD: wanted[EMBEDDING]}
    elif facts.tied and _HEAD in named:
        wanted = {**wanted, _HEAD: wanted[EMBEDDING]}
    surplus = [name for name in named if name not in wanted and not _HARMLESS.match(name)]
    layers = {int(match[1]) for name in named if (match := re.match(r"model\.layers\.(\d{1,9})\.", name))}
    deep = max(layers, default=-1) + 1
    if deep != facts.layers and (missing or surplus):
        message = f"has weights of {deep} layers, and its config.json says {facts.layers} (`num_hidden_layers`)"
        yield Finding("E0530", message, "config.json and weights must be of one model: copy or fetch both again")
    elif missing:
        message = f"lacks weights: {some(missing)}, of {len(wanted)} tensors; masc makes none up"
        yield Finding("E0530", message, _both(facts, missing))
    if surplus and deep == facts.layers:
        message = f"holds weights that its type `{facts.model_type}` has no place for: {some(surplus)}"
        yield Finding("E0530", message, "config.json and weights must be of one model")
    bent = [n for n in wanted if n in named and named[n].shape != wanted[n]]
    if bent:
        first = named[bent[0]].shape
        shapes = f"`{bent[0]}` is {_shape(first)}, and config.json says {_shape(wanted[bent[0]])}"
        more = f" ({len(bent) - 1:,} more do not fit)" if len(bent) > 1 else ""
        yield Finding("E0530", f"has weights of another shape: {shapes}{more}", "both must be of one model")
    if other := [n for n in wanted if n in named and named[n].dtype not in _FLOATS]:
        message = f"has weights that are not floating-point numbers: {some(other)}, stored as {named[other[0]].dtype}"
        yield Finding("E0530", message, "use a version of it that is not quantised")


def _full(name: str, wanted: Mapping[str, Shape]) -> str:
    """A tensor's name as the whole model has it: a checkpoint of the body alone leaves `model.` out."""
    return name if name in wanted or f"model.{name}" not in wanted else f"model.{name}"


def _both(facts: ModelFacts, missing: list[str]) -> str:
    if missing == [_HEAD] and not facts.tied:
        return "if the model ties its embeddings, config.json must say so: `tie_word_embeddings`"
    return "copy or fetch the model again"


def _shape(shape: Shape) -> str:
    return " x ".join(str(n) for n in shape) or "a single number"
