"""What `config.json` and the files beside it say that no model can be run with: values of other types, numbers out of
range, names that nobody knows.

transformers finds most of this out while it loads the weights, and some of it not at all: a rotary base of 0 makes
every number NaN. Here it is said before, with the entry's name.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from masc.compiler.files.reading import read_json
from masc.compiler.models.facts import ModelFacts
from masc.compiler.models.folder.finding import Finding

_GELU = (
    "gelu",
    "gelu_10",
    "gelu_accurate",
    "gelu_fast",
    "gelu_new",
    "gelu_python",
    "gelu_python_tanh",
    "gelu_pytorch_tanh",
)
_OTHER = (
    "hardswish",
    "laplace",
    "leaky_relu",
    "linear",
    "mish",
    "prelu",
    "quick_gelu",
    "relu",
    "relu2",
    "relu6",
    "sigmoid",
    "silu",
    "sqrtsoftplus",
    "swish",
    "tanh",
    "xielu",
)
ACTIVATIONS = frozenset((*_GELU, *_OTHER))
"""The activation functions that transformers knows by name."""
_FLAGS = ("attention_bias", "mlp_bias", "tie_word_embeddings", "use_sliding_window", "use_cache")
_TOKENS = ("pad_token_id", "bos_token_id")
_ROTARY = (
    "rope_theta",
    "rope_local_base_freq",
    "factor",
    "low_freq_factor",
    "high_freq_factor",
    "original_max_position_embeddings",
    "beta_fast",
    "beta_slow",
    "attention_factor",
)
_NEEDED = {"linear": ("factor",), "yarn": ("factor",), "llama3": ("factor", "low_freq_factor", "high_freq_factor")}
"""What a rotary embedding of each type cannot be computed without."""
_NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def wrong_settings(config: Mapping[str, Any], facts: ModelFacts) -> list[Finding]:
    """E0503 for entries of a supported model's config.json that it cannot be run with."""
    fix = "copy or fetch the model again"
    message = "has a config.json that no model can be run with"
    return [Finding("E0503", f"{message}: {complaint}", fix) for complaint in _complaints(config, facts)]


def _complaints(config: Mapping[str, Any], facts: ModelFacts) -> Iterator[str]:
    for name in _FLAGS:
        if config.get(name) is not None and not isinstance(config[name], bool):
            yield f"`{name}` is {_short(config[name])}, neither true nor false"
    for name in ("hidden_act", "hidden_activation"):
        if name in config and config[name] not in ACTIVATIONS and not (name != "hidden_act" and config[name] is None):
            yield f"`{name}` is {_short(config[name])}, which is no activation function"
    if "rms_norm_eps" in config and not _is_number(config["rms_norm_eps"], 0.0):
        yield f"`rms_norm_eps` is {_short(config['rms_norm_eps'])}, not a number of 0 or more"
    rows = config.get("vocab_size")
    for name in _TOKENS:
        token = config.get(name)
        if token is not None and not _is_token(token):
            yield f"`{name}` is {_short(token)}, not the number of a token"
    pad = config.get("pad_token_id")
    if isinstance(rows, int) and isinstance(pad, int) and not -rows <= pad < rows:
        yield f"`pad_token_id` is {pad}, and there are {rows:,} tokens"
    if (end := config.get("eos_token_id")) is not None and not _is_end(end):
        yield f"`eos_token_id` is {_short(end)}, not the number of a token, or a list of such"
    if facts.head_dim % 2:
        yield f"heads are {facts.head_dim} wide (`head_dim`), and a rotary embedding turns pairs"
    yield from _rotary(config, facts)


def _rotary(config: Mapping[str, Any], facts: ModelFacts) -> Iterator[str]:
    tables: list[Mapping[str, Any]] = [config]
    for name in ("rope_parameters", "rope_scaling"):
        table = config.get(name)
        if isinstance(table, dict):
            tables += [table, *(of for of in table.values() if isinstance(of, dict))]
    wrong = [(n, t[n]) for t in tables for n in _ROTARY if t.get(n) is not None and not _is_number(t[n], 1e-12)]
    for name, value in wrong:
        yield f"`{name}` of its rotary embedding is {_short(value)}, not a positive number"
    for rope in () if wrong else facts.ropes:
        known = dict(rope.parameters)
        if missing := [name for name in _NEEDED.get(rope.kind, ()) if name not in known]:
            yield f"its rotary embedding is of type `{rope.kind}`, and has no `{missing[0]}`"
        elif rope.kind == "llama3" and known["high_freq_factor"] <= known["low_freq_factor"]:
            yield "`high_freq_factor` of its rotary embedding is not above `low_freq_factor`"


def wrong_beside(folder: Path, tokenizer: Mapping[str, Any]) -> Iterator[Finding]:
    """E0535 for entries of `generation_config.json` and `tokenizer_config.json` that nothing can be made of.
    tokenizer: the latter."""
    try:
        end = read_json(folder / "generation_config.json").get("eos_token_id")
    except (OSError, ValueError, AttributeError):
        end = None  # there is none, or it was told already
    if end is not None and not _is_end(end):
        what = f"`eos_token_id` is {_short(end)}, not the number of a token, or a list of such"
        yield Finding("E0535", f"has a generation_config.json that cannot be followed: {what}")
    for name in _NAMED:
        token = tokenizer.get(name)
        content = token.get("content") if isinstance(token, dict) else token
        if content is not None and not (isinstance(content, str) and _is_text(content)):
            what = f"`{name}` is {_short(token)}, not a token"
            yield Finding("E0535", f"has a tokenizer_config.json that cannot be followed: {what}")
    longest = tokenizer.get("model_max_length")
    if longest is not None and not _is_number(longest, 1.0):
        what = f"`model_max_length` is {_short(longest)}, not a number"
        yield Finding("E0535", f"has a tokenizer_config.json that cannot be followed: {what}")


def _is_number(value: object, low: float) -> bool:
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    return value >= low and (isinstance(value, int) or math.isfinite(value))


def _is_token(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_end(value: Any) -> bool:
    """One token, or several."""
    several = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    return all(_is_token(each) for each in several)


def _is_text(text: str) -> bool:
    """Whether a text holds no half of a character."""
    return not any("\ud800" <= char <= "\udfff" for char in text)


def _short(value: object) -> str:
    shown = ascii(value)
    return shown if len(shown) <= 40 else f"{shown[:39]}..."
