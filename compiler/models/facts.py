"""What the compiler knows about a base model: its `config.json`, read as plain JSON, and whether masc can carry its
cache.

Keys and values move between agents after rotary embedding. That is exact only where positions are rotary and the
rotation does not depend on the length of the text; `check_facts` refuses all else, each for its own reason. Layers with
a sliding window are masked by the distance of positions, which is exact too, but loses what is far away: the compiler
says so (`models.window_note`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from masc.compiler.files.reading import read_json
from masc.dsl.diagnostics import Diagnostic, fail
from masc.dsl.regular import MEND_LINK, dangling
from masc.dsl.source import Span

ALLOWED = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma3_text", "olmo2")
"""Model types that the tests hold against plain forward passes."""

_ROPE = ("default", "linear", "llama3", "yarn")
_WHY = {
    "gpt2": "its positions are absolute (learnt vectors), so a cache cannot be moved to another place",
    "gpt_neo": "its positions are absolute (learnt vectors), so a cache cannot be moved to another place",
    "gpt_bigcode": "its positions are absolute (learnt vectors), so a cache cannot be moved to another place",
    "opt": "its positions are absolute (learnt vectors), so a cache cannot be moved to another place",
    "bloom": "its positions are attention biases (ALiBi), not rotary",
    "mpt": "its positions are attention biases (ALiBi), not rotary",
    "gemma2": "it caps its attention scores and its logits",
    "gemma3": "it reads images too; only the text models of that family (type `gemma3_text`) are supported",
    "smollm3": "every fourth layer has no rotary embedding",
    "mamba": "it has no keys and values to pass on",
    "t5": "it is an encoder-decoder, not a causal decoder",
    "bert": "it is an encoder, not a causal decoder",
}
# What a config.json leaves out has the default of its own configuration class.
_TIED = {"gemma": True, "gemma3_text": True}
_HEAD_DIM = {"gemma": 256, "gemma3_text": 256, "qwen3": 128}
_KV_HEADS = {"mistral": 8, "qwen2": 32, "qwen3": 32, "gemma": 16, "gemma3_text": 4}
_MOST_LAYERS = 10_000
# The others have full attention in every layer, whatever their config.json says of windows.
_WINDOW = {"mistral": 4096, "qwen2": 4096, "qwen3": 4096, "gemma3_text": 4096}
_WINDOW_ON_REQUEST = ("qwen2", "qwen3")
# Settings that change a pass, and that masc does not follow; few models have them.
_UNLIKE = {
    "use_bidirectional_attention": "its tokens see what comes after them",
    "attn_logit_softcapping": "it caps its attention scores",
    "final_logit_softcapping": "it caps its logits",
}
Shapes = Mapping[str, tuple[int, int]]
"""The linear projections of a block by name: how many numbers go in, and how many come out."""


@dataclass(frozen=True)
class Rope:
    """A rotary embedding: its type, and its parameters but the type. Some models have one for each type of layer."""

    kind: str
    parameters: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class ModelFacts:
    """`max_positions` None: not said; `ropes`: the rotary embeddings, that of layers with full attention first;
    `windowed`: the layers that see only the last `window` positions, the reader's own included (None and empty: no
    layer is limited); `unrotated`: layers without rotary embedding; `unlike`: what else masc does not follow.

    Of the rest of its folder (`model_folder`): `alone`, `led`: why its chat template cannot be used for an agent
    without, or with, a system text (None: it can); `unembedded`: added tokens that its embedding has no row for."""

    model_type: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    tied: bool
    max_positions: int | None
    ropes: tuple[Rope, ...]
    window: int | None
    windowed: tuple[int, ...]
    unrotated: tuple[int, ...]
    unlike: tuple[str, ...]
    alone: str | None = None
    led: str | None = None
    unembedded: tuple[str, ...] = ()


def read_config(folder: Path, span: Span | None = None) -> ModelFacts:
    """The facts of the model in a folder. Raises MascError (E0502, E0503) where there is no readable `config.json`."""
    path = folder / "config.json"
    try:
        config = read_json(path)
    except FileNotFoundError:
        if why := dangling(path):
            raise fail("E0502", f"there is no model in `{folder}`: {why}", span, hint=MEND_LINK) from None
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
    if layers > _MOST_LAYERS:
        raise ValueError(f"it says that there are {layers:,} layers")
    kv_heads = _count(config, "num_key_value_heads", default=_kv_heads(config, kind, heads))
    if kind in ALLOWED and heads % kv_heads:
        raise ValueError(f"{heads} heads cannot share {kv_heads} heads of keys and values")
    window, windowed = _windows(config, kind, layers)
    return ModelFacts(
        model_type=kind,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=_count(config, "head_dim", default=_HEAD_DIM.get(kind, hidden // heads)),
        tied=bool(config.get("tie_word_embeddings", _TIED.get(kind, False))),
        max_positions=_count(config, "max_position_embeddings", "n_positions", default=0) or None,
        ropes=_ropes(config),
        window=window,
        windowed=windowed,
        unrotated=tuple(i for i, rotated in enumerate(config.get("no_rope_layers") or ()) if not rotated),
        unlike=tuple(what for name, what in _UNLIKE.items() if config.get(name)),
    )


def _kv_heads(config: Mapping[str, Any], kind: str, heads: int) -> int:
    """What holds where config.json names no heads of keys and values; null means as many as there are heads."""
    return heads if "num_key_value_heads" in config else _KV_HEADS.get(kind, heads)


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


def _ropes(config: Mapping[str, Any]) -> tuple[Rope, ...]:
    """From `rope_parameters` (transformers 5) and `rope_scaling` beside `rope_theta` (before): every one that is there,
    since it depends on the type of model which of them counts."""
    tables: list[Mapping[str, Any]] = []
    for name in ("rope_parameters", "rope_scaling"):
        table = dict(config.get(name) or {})
        nested = {kind: of for kind, of in table.items() if isinstance(of, dict)}
        first = [nested.pop("full_attention")] if "full_attention" in nested else []
        tables += [*first, *nested.values()] if first or nested else [table] if table else []
    found = [_rope(table, config) for table in tables or [{}]]
    if config.get("rope_local_base_freq") is not None:  # of layers with a window, in gemma3 before transformers 5
        found.append(_rope({"rope_theta": config["rope_local_base_freq"]}, config))
    return tuple(dict.fromkeys(found))


def _rope(table: Mapping[str, Any], config: Mapping[str, Any]) -> Rope:
    shared = {n: config[n] for n in ("rope_theta", "partial_rotary_factor") if config.get(n) is not None}
    own = {name: value for name, value in table.items() if name not in ("rope_type", "type")}
    numbers = {n: float(v) for n, v in (shared | own).items() if isinstance(v, int | float) and not isinstance(v, bool)}
    kind = table.get("rope_type") or table.get("type") or "default"
    return Rope(str(kind), tuple(sorted(numbers.items())))


def _windows(config: Mapping[str, Any], kind: str, layers: int) -> tuple[int | None, tuple[int, ...]]:
    """The window, and the layers that have it, by the rules of each type's own configuration class."""
    if kind not in _WINDOW:
        return None, ()
    given = config.get("sliding_window", _WINDOW[kind])
    if kind in _WINDOW_ON_REQUEST and not config.get("use_sliding_window"):
        given = None
    types = config.get("layer_types")
    if kind == "mistral":  # it has no types of layers, even where its config.json names some
        found = tuple(range(layers)) if given is not None else ()
    elif types is not None:
        found = _layers_of_type(types, layers)
    elif kind == "gemma3_text":
        every = _count(config, "sliding_window_pattern", default=6)
        found = tuple(i for i in range(layers) if (i + 1) % every)
    else:
        first = config.get("max_window_layers", 28)
        found = tuple(i for i in range(layers) if i >= first) if given is not None else ()
    if given is None and (found or kind == "gemma3_text"):  # transformers cannot run such a model either
        raise ValueError("it has layers with a sliding window, and `sliding_window` does not say how wide")
    if not found:
        return None, ()
    return _count({"sliding_window": given}, "sliding_window"), found


def _layers_of_type(types: Any, layers: int) -> tuple[int, ...]:
    """The layers with a sliding window by their types."""
    if not isinstance(types, list) or len(types) != layers:
        raise ValueError(f"`layer_types` is not a list of {layers} types, one for each layer")
    if other := [kind for kind in types if kind not in ("full_attention", "sliding_attention")]:
        raise ValueError(f"it has layers of type {other[0]!r}")
    return tuple(i for i, kind in enumerate(types) if kind == "sliding_attention")


def check_facts(facts: ModelFacts, target: str, span: Span | None = None) -> list[Diagnostic]:
    """Why masc cannot carry this model's cache from agent to agent; empty where it can."""

    def refuse(code: str, message: str, hint: str | None = None) -> Diagnostic:
        return Diagnostic(code, f"the model `{target}` cannot be used: {message}", span, hint=hint)

    found = []
    if facts.model_type not in ALLOWED:
        why = _WHY.get(facts.model_type, "masc has not been tested on it")
        hint = f"supported types are {', '.join(ALLOWED)}"
        found.append(refuse("E0504", f"its type is `{facts.model_type}`; {why}", hint))
    found += [refuse("E0504", what) for what in facts.unlike]
    found += [refuse("E0505", *what) for what in dict.fromkeys(_rotary_problems(facts.ropes))]
    if facts.unrotated:
        layers = ", ".join(str(i) for i in facts.unrotated[:4]) + (", ..." if len(facts.unrotated) > 4 else "")
        found.append(refuse("E0506", f"layers {layers} have no rotary embedding"))
    return found


def _rotary_problems(ropes: Iterable[Rope]) -> Iterable[tuple[str, str | None]]:
    """What is wrong with any of the rotary embeddings, each with a hint."""
    for rope in ropes:
        if rope.kind not in _ROPE:
            message = f"its rotary embedding is of type `{rope.kind}`"
            if rope.kind in ("dynamic", "longrope", "su"):
                message += ", where the rotation depends on the length of the text"
            yield message, f"supported rotary types are {', '.join(_ROPE)}"
        partial = dict(rope.parameters).get("partial_rotary_factor", 1.0)
        if partial != 1.0:
            yield f"only a part ({partial:g}) of each head is rotated", None
