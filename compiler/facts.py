"""What the compiler knows about a base model: its `config.json`, read as plain JSON, and whether masc can carry its
cache.

Keys and values move between agents after rotary embedding. That is exact only where positions are rotary, unscaled by
the length of the text, and every layer keeps every position; `check_facts` refuses all else, each for its own reason.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from masc.dsl.diagnostics import Diagnostic, MascError, fail
from masc.dsl.source import Span

ALLOWED = ("llama", "mistral", "qwen2", "qwen3", "gemma", "olmo2")
"""Model types that the tests hold against plain forward passes."""

_ROPE = ("default", "linear", "llama3", "yarn")
_WHY = {
    "gpt2": "its positions are absolute (learnt vectors), so a cache cannot be moved to another place",
    "gpt_neo": "its positions are absolute (learnt vectors), so a cache cannot be moved to another place",
    "gpt_bigcode": "its positions are absolute (learnt vectors), so a cache cannot be moved to another place",
    "opt": "its positions are absolute (learnt vectors), so a cache cannot be moved to another place",
    "bloom": "its positions are attention biases (ALiBi), not rotary",
    "mpt": "its positions are attention biases (ALiBi), not rotary",
    "gemma2": "every second layer sees only a sliding window",
    "gemma3": "most of its layers see only a sliding window",
    "gemma3_text": "most of its layers see only a sliding window",
    "smollm3": "every fourth layer has no rotary embedding",
    "mamba": "it has no keys and values to pass on",
    "t5": "it is an encoder-decoder, not a causal decoder",
    "bert": "it is an encoder, not a causal decoder",
}
# What a config.json leaves out has the default of its own configuration class.
_TIED = {"gemma": True}
_WINDOW = {"mistral": 4096}
_USE_WINDOW = {"qwen2": False, "qwen3": False}


@dataclass(frozen=True)
class ModelFacts:
    """`window`: the sliding window if one is in force; `rope`: the parameters of the rotary embedding but its type;
    `unrotated`: layers without rotary embedding; `max_positions` None: not said."""

    model_type: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    tied: bool
    max_positions: int | None
    rope_type: str
    rope: tuple[tuple[str, float], ...]
    window: int | None
    unrotated: tuple[int, ...]


def read_config(folder: Path, span: Span | None = None) -> ModelFacts:
    """The facts of the model in a folder. Raises MascError (E0502, E0503) where there is no readable `config.json`."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise fail(
            "E0502",
            f"the folder `{folder}` holds no model: there is no config.json in it",
            span,
            hint="a model folder holds config.json, the tokenizer's files and *.safetensors",
        ) from None
    except (OSError, ValueError) as error:
        raise fail("E0503", f"cannot read `{path}`: {error}", span) from None
    try:
        return _facts(config)
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        what = f"`{error.args[0]}` is missing" if isinstance(error, KeyError) else str(error)
        raise fail("E0503", f"`{path}` does not describe a causal language model: {what}", span) from None


def _facts(config: Mapping[str, Any]) -> ModelFacts:
    if not isinstance(config, dict):
        raise TypeError("it is not a JSON object")
    kind = config["model_type"]
    if not isinstance(kind, str):
        raise TypeError("`model_type` is not a string")
    if isinstance(config.get("text_config"), dict):
        config = {**config, **config["text_config"]}
    hidden = _count(config, "hidden_size", "n_embd", "d_model")
    heads = _count(config, "num_attention_heads", "n_head", "n_heads", "num_heads")
    layers = _count(config, "num_hidden_layers", "n_layer", "n_layers", "num_layers")
    rope_type, rope = _rope(config)
    return ModelFacts(
        model_type=kind,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=_count(config, "num_key_value_heads", default=heads),
        head_dim=_count(config, "head_dim", default=hidden // heads),
        tied=bool(config.get("tie_word_embeddings", _TIED.get(kind, False))),
        max_positions=_count(config, "max_position_embeddings", "n_positions", default=0) or None,
        rope_type=rope_type,
        rope=rope,
        window=_window(config, kind),
        unrotated=tuple(i for i, rotated in enumerate(config.get("no_rope_layers") or ()) if not rotated),
    )


def _count(config: Mapping[str, Any], *names: str, default: int | None = None) -> int:
    for name in names:
        value = config.get(name)
        if value is not None:
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"`{name}` is {value!r}, not a positive whole number")
            return value
    if default is None:
        raise KeyError(names[0])
    return default


def _rope(config: Mapping[str, Any]) -> tuple[str, tuple[tuple[str, float], ...]]:
    """Type and parameters, from `rope_parameters` (transformers 5) or `rope_scaling` beside `rope_theta` (before)."""
    table = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    if any(isinstance(value, dict) for value in table.values()):  # one table for each kind of layer
        table = dict(next((t for t in (table.get("full_attention"), *table.values()) if isinstance(t, dict)), {}))
    for name in ("rope_theta", "partial_rotary_factor"):
        if config.get(name) is not None:
            table.setdefault(name, config[name])
    kind = str(table.pop("rope_type", None) or table.pop("type", None) or "default")
    numbers = {n: float(v) for n, v in table.items() if isinstance(v, int | float) and not isinstance(v, bool)}
    return kind, tuple(sorted(numbers.items()))


def _window(config: Mapping[str, Any], kind: str) -> int | None:
    kinds = config.get("layer_types")
    window = config["sliding_window"] if "sliding_window" in config else _WINDOW.get(kind)
    if kinds:
        return int(window or 0) if any("sliding" in str(k) for k in kinds) else None
    if window is None or not config.get("use_sliding_window", _USE_WINDOW.get(kind, True)):
        return None
    return int(window)


def check_facts(facts: ModelFacts, target: str, span: Span | None = None) -> list[Diagnostic]:
    """Why masc cannot carry this model's cache from agent to agent; empty where it can."""

    def refuse(code: str, message: str, hint: str | None = None) -> Diagnostic:
        return Diagnostic(code, f"the model `{target}` cannot be used: {message}", span, hint=hint)

    found = []
    if facts.model_type not in ALLOWED:
        why = _WHY.get(facts.model_type, "masc has not been tested on it")
        hint = f"supported types are {', '.join(ALLOWED)}"
        found.append(refuse("E0504", f"its type is `{facts.model_type}`; {why}", hint))
    partial = dict(facts.rope).get("partial_rotary_factor", 1.0)
    if facts.rope_type not in _ROPE:
        message = f"its rotary embedding is of type `{facts.rope_type}`"
        if facts.rope_type in ("dynamic", "longrope", "su"):
            message += ", where the rotation depends on the length of the text"
        found.append(refuse("E0505", message, f"supported rotary types are {', '.join(_ROPE)}"))
    if partial != 1.0:
        found.append(refuse("E0505", f"only a part ({partial:g}) of each head is rotated"))
    if facts.unrotated:
        layers = ", ".join(str(i) for i in facts.unrotated[:4]) + (", ..." if len(facts.unrotated) > 4 else "")
        found.append(refuse("E0506", f"layers {layers} have no rotary embedding"))
    if facts.window is not None:
        message = f"it has layers that see only the last {facts.window} positions, and a kv edge would lose the rest"
        found.append(refuse("E0507", message, "sliding windows are not supported in this version"))
    return found


def facts_or_diagnostics(folder: Path, target: str, span: Span | None) -> tuple[ModelFacts | None, list[Diagnostic]]:
    """Read and check in one go: the facts (None where they could not be read) and what is wrong with them."""
    try:
        facts = read_config(folder, span)
    except MascError as error:
        return None, list(error.diagnostics)
    return facts, check_facts(facts, target, span)
