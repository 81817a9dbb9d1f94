"""What the compiler knows about a base model: its `config.json`, read as plain JSON, and whether masc can carry its
cache.

Keys and values move between agents after rotary embedding. That is exact only where positions are rotary and the
rotation does not depend on the length of the text; `check_facts` refuses all else, each for its own reason. A type that
`families.py` does not declare needs a proof of the model itself (`masc models prove`). Layers with a sliding window are
masked by the distance of positions, which is exact too, but loses what is far away: the compiler says so
(`models.window_note`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from masc.compiler.files.reading import read_json
from masc.compiler.models.families import FAMILIES, UNUSABLE, Windows, family_of
from masc.compiler.models.proof import FUSED, KV, MEANS, MOVED, OWN, Identity, Proof, versions
from masc.dsl.diagnostics import Diagnostic, fail
from masc.dsl.regular import MEND_LINK, dangling
from masc.dsl.source import Span

ALLOWED = tuple(FAMILIES)
"""Model types on which the tests have proven what masc relies on."""

_ROPE = ("default", "linear", "llama3", "yarn")
_MOST_LAYERS = 10_000
_MOST = 1 << 31
# Settings that change a pass, and that masc does not follow; few models have them.
_UNLIKE = {"use_bidirectional_attention": "its tokens see what comes after them"}
_CAPS = {
    "attn_logit_softcapping": "it caps its attention scores, which models of its type do not do",
    "final_logit_softcapping": "it caps its logits, which models of its type do not do",
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
    without, or with, a system text (None: it can); `unembedded`: added tokens that its embedding has no row for;
    `variables`: what its chat template may be told (None: it has none); `method`: what its weights are quantised by.

    proof: what was proven of a model whose type is not declared (None: nothing yet). sharing: how many layers, the
    last ones, read the keys and values of earlier ones."""

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
    variables: tuple[str, ...] | None = None
    method: str | None = None
    proof: Proof | None = None
    sharing: int = 0

    @property
    def caches(self) -> int:
        """How many layers keep keys and values: all but the last `sharing` ones."""
        return self.layers - self.sharing


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


def of_text(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of a model that also sees or hears, what its text model says, beside the rest."""
    inner = config.get("text_config")
    return {**config, **inner} if isinstance(inner, dict) else config


def sized(config: Mapping[str, Any], name: str) -> int | None:
    """A size that config.json tells; None: it does not, or it is none."""
    value = config.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= _MOST else None


def _facts(config: Mapping[str, Any]) -> ModelFacts:
    if not isinstance(config, dict):
        raise TypeError("it is not a JSON object")
    kind = config["model_type"]
    if not isinstance(kind, str):
        raise TypeError("`model_type` is not a string")
    config = of_text(config)
    kind = config["model_type"]
    if not isinstance(kind, str):
        raise TypeError("`model_type` of its text model is not a string")
    family = family_of(kind)
    hidden = _count(config, "hidden_size", "n_embd", "d_model")
    heads = _count(config, "num_attention_heads", "n_head", "n_heads", "num_heads")
    blocks = config.get("layers_block_type")
    listed = len(blocks) if isinstance(blocks, list) else None
    layers = _count(config, "num_hidden_layers", "n_layer", "n_layers", "num_layers", default=listed)
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
        head_dim=_count(config, "head_dim", default=family.head_dim or hidden // heads),
        tied=bool(config.get("tie_word_embeddings", family.tied)),
        max_positions=_count(config, "max_position_embeddings", "n_positions", default=0) or None,
        ropes=_ropes(config),
        window=window,
        windowed=windowed,
        unrotated=tuple(i for i, rotated in enumerate(config.get("no_rope_layers") or ()) if not rotated),
        sharing=min(sized(config, "num_kv_shared_layers") or 0, layers - 1),
        unlike=tuple(what for name, what in (_UNLIKE | ({} if family.capped else _CAPS)).items() if config.get(name)),
    )


def _kv_heads(config: Mapping[str, Any], kind: str, heads: int) -> int:
    """What holds where config.json names no heads of keys and values; null means as many as there are heads."""
    return heads if "num_key_value_heads" in config else family_of(kind).kv_heads or heads


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
    known = family_of(kind).windows if kind in FAMILIES else Windows()
    if known is None:
        return None, ()
    given = config.get("sliding_window", known.width)
    if known.asked and not config.get("use_sliding_window"):
        given = None
    types = config.get("layer_types")
    if not known.typed:  # it has no types of layers, even where its config.json names some
        found = tuple(range(layers)) if given is not None else ()
    elif types is not None:
        found = _layers_of_type(types, layers, kind in FAMILIES and not family_of(kind).stateful)
    elif known.asked:
        first = config.get("max_window_layers", 28)
        found = tuple(i for i in range(layers) if i >= first) if given is not None else ()
    else:
        found = _by_pattern(config.get("sliding_window_pattern", known.every), layers)
    if given is None and (found or known.every):  # transformers cannot run such a model either
        raise ValueError("it has layers with a sliding window, and `sliding_window` does not say how wide")
    if not found:
        return None, ()
    return _count({"sliding_window": given}, "sliding_window"), found


def _by_pattern(pattern: object, layers: int) -> tuple[int, ...]:
    """The layers with a sliding window where each so many-th has none (0: all have one; None: none has), or by a text
    of which `L` means one (exaone4)."""
    if isinstance(pattern, str) and pattern and set(pattern) <= {"L", "G"}:
        return tuple(i for i in range(layers) if pattern[i % len(pattern)] == "L")
    if pattern is None:
        return ()
    if pattern == 0 and not isinstance(pattern, bool):
        return tuple(range(layers))
    every = _count({"sliding_window_pattern": pattern}, "sliding_window_pattern")
    return tuple(i for i in range(layers) if (i + 1) % every)


def _layers_of_type(types: Any, layers: int, two: bool) -> tuple[int, ...]:
    """The layers with a sliding window by their types. two: there are no other types than with and without one."""
    if not isinstance(types, list) or len(types) != layers:
        raise ValueError(f"`layer_types` is not a list of {layers} types, one for each layer")
    if two and (other := [kind for kind in types if kind not in ("full_attention", "sliding_attention")]):
        raise ValueError(f"it has layers of type {other[0]!r}")
    return tuple(i for i, kind in enumerate(types) if kind == "sliding_attention")


def check_facts(facts: ModelFacts, target: str, span: Span | None = None) -> list[Diagnostic]:
    """Why masc cannot run agents on this model at all; empty where it can. What single edges ask beyond that:
    `lacking`."""

    def refuse(code: str, message: str, hint: str | None = None) -> Diagnostic:
        return Diagnostic(code, f"the model `{target}` cannot be used: {message}", span, hint=hint)

    kind, family = facts.model_type, family_of(facts.model_type)
    if kind in UNUSABLE:
        hint = "masc runs causal decoders with rotary embedding, such as llama, mistral, qwen3, gemma3_text or olmo2"
        return [refuse("E0504", f"its type is `{kind}`; {UNUSABLE[kind]}", hint)]
    found = [refuse("E0504", what) for what in facts.unlike]
    partial = family.partial or kind not in FAMILIES
    found += [refuse("E0505", *what) for what in dict.fromkeys(_rotary_problems(facts.ropes, family.ropes, partial))]
    if facts.unrotated and kind in FAMILIES and not family.unrotated:
        layers = ", ".join(str(i) for i in facts.unrotated[:4]) + (", ..." if len(facts.unrotated) > 4 else "")
        found.append(refuse("E0506", f"layers {layers} have no rotary embedding, which models of its type do not do"))
    if found or kind in FAMILIES:
        return found
    find_out = f"`masc models prove {target}` finds out whether it can be used"
    if facts.proof is None:
        return [refuse("E0504", f"nothing has been proven of its type, `{kind}`", find_out)]
    if (facts.proof.masc, facts.proof.transformers) != versions():
        theirs, ours = (f"masc {a} with transformers {b}" for a, b in (_made_with(facts.proof), versions()))
        return [refuse("E0525", f"what was proven of it was proven with {theirs}; this is {ours}", find_out)]
    if failed := facts.proof.failed(OWN):
        told = f"`masc models prove {target}` shows all figures"
        return [refuse("E0524", f"its proof failed: {failed_text(failed[0])}", told)]
    return []


def _made_with(proof: Proof) -> tuple[str, str]:
    return proof.masc, proof.transformers


def failed_text(identity: Identity) -> str:
    """An identity that does not hold, in words."""
    if identity.figure is None:
        return f"that {MEANS[identity.name]} could not be computed ({identity.why})"
    return f"it is not so that {MEANS[identity.name]} ({identity.figure:.2g}, at most {identity.bound:.2g})"


ALONG = "one sender with `carry = trace` hands all of it on; `hidden` and `text` ask for nothing of it"
"""What else one can do where a state cannot be handed on."""
ABILITIES: Mapping[str, tuple[str, str, str]] = {
    "keys": ("E0523", "hands no keys and values on", "send `hidden` or `text`, which ask for none"),
    "moved": ("E0522", "has keys that cannot be moved to another position", "`merge = overlap` moves none"),
    "fused": ("E0522", "has a cache that cannot be fused", "send `kv`, `hidden` or `text`"),
}
"""What edges may ask of a model: the code where it cannot, what is said then, and what else one can do."""
_PROVEN = {"keys": KV, "moved": MOVED, "fused": FUSED}


def stateful(facts: ModelFacts) -> str:
    """Why what a pass of a model leaves behind is more than keys and values; empty: it is these alone."""
    return family_of(facts.model_type).stateful or ("" if facts.proof is None else facts.proof.passed_over("moved"))


def ungated(facts: ModelFacts, target: str, span: Span | None = None) -> Diagnostic | None:
    """The complaint about a gate before what stands in a prompt, on a model that reads it otherwise than by attention,
    too; None: it does not."""
    if not (why := stateful(facts)):
        return None
    message = f"the model `{target}` cannot have a gate on what it reads: {why}, and a gate closes attention alone"
    return Diagnostic("E0523", message, span, hint="leave `gate` out")


def lacking(facts: ModelFacts, ability: str, target: str, span: Span | None = None) -> Diagnostic | None:
    """The complaint about a model that cannot do what an edge asks; None: it can. ability: of `ABILITIES`."""
    family = family_of(facts.model_type)
    why = {
        "keys": "",
        "moved": family.stateful or family.unmoved,
        "fused": family.stateful or family.unmoved or family.uneven,
    }[ability]
    if facts.proof is not None and not facts.proof.holds(_PROVEN[ability]):
        failed = facts.proof.failed(_PROVEN[ability])
        passed_over = (one.why for one in facts.proof.identities if one.name in _PROVEN[ability] and one.held is None)
        why = failed_text(failed[0]) if failed else next(passed_over, "it was not proven")
    if not why:
        return None
    code, message, hint = ABILITIES[ability]
    if why == stateful(facts):
        code, message, hint = "E0523", "keeps what can be handed on as a whole alone", ALONG
    return Diagnostic(code, f"the model `{target}` {message}: {why}", span, hint=hint)


def _rotary_problems(ropes: Iterable[Rope], own: Sequence[str], partial: bool) -> Iterable[tuple[str, str | None]]:
    """What is wrong with any of the rotary embeddings, each with a hint. own: kinds that models of the type have beside
    the usual ones; partial: only a part of a head may be rotated."""
    for rope in ropes:
        if rope.kind not in (*_ROPE, *own):
            message = f"its rotary embedding is of type `{rope.kind}`"
            if rope.kind in ("dynamic", "longrope", "su"):
                message += ", where the rotation depends on the length of the text"
            yield message, f"supported rotary types are {', '.join(_ROPE)}"
        share = dict(rope.parameters).get("partial_rotary_factor", 1.0)
        if share != 1.0 and not partial:
            yield f"only a part ({share:g}) of each head is rotated, which models of its type do not do", None
