"""The types of models that masc can use, and what is special about each: one declaration for each type.

What stands here was proven: `benchmarks/families.py` makes a small random model of every type and holds the identities
of `compiler/models/proof.py` on it, and so do tests for each type that is not built of what others have. Numbers are
what transformers takes where a config.json says nothing; tests hold them against its configuration classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from masc.compiler.language.values import PROJECTIONS


@dataclass(frozen=True)
class Windows:
    """Sliding windows. width: in positions, where config.json says nothing (None: no window); typed: layers differ, by
    `layer_types` (else every layer has the window); every: where that is left out, each so many-th layer has none (0:
    all have it; None: all have none); asked: there are none unless `use_sliding_window` says so."""

    width: int | None = None
    typed: bool = True
    every: int | None = None
    asked: bool = False


@dataclass(frozen=True)
class Family:
    """One type of model. special: in words, for the documents.

    Defaults of its configuration class: tied (embeddings), head_dim (None: width by heads), kv_heads (None: as many as
    heads), windows (None: it knows none).
    What it knows: partial (only a part of each head may be rotated), unrotated (layers without rotary embedding),
    capped (scores and logits held within a cap), ropes (kinds of rotary embedding beside those that all types have),
    multiplies (its `logits_scaling` is a factor; others divide by it).
    What it cannot do, and why: stateful (hand on a part of what a pass leaves behind, for it is more than keys and
    values), unmoved (move keys to another position), uneven (have its cache fused).
    seven: its blocks have the seven projections of llama; attention, mlp: what they have instead, that which ends each
    of them last (no attention: that is not told; no mlp: experts); inner: what config.json calls the width of an MLP;
    experts: what gets no adapter, being no linear projection.
    What a block has beside them, for its cost: norms (as wide as the hidden states), normed (queries and keys have
    norms of their own), softcap (within which scores are held where config.json says nothing), sinks (scores of
    nothing), parallel (attention stands beside the MLP).
    """

    special: str = ""
    tied: bool = False
    head_dim: int | None = None
    kv_heads: int | None = None
    windows: Windows | None = None
    partial: bool = False
    unrotated: bool = False
    capped: bool = False
    ropes: tuple[str, ...] = ()
    multiplies: bool = False
    stateful: str = ""
    unmoved: str = ""
    uneven: str = ""
    seven: bool = True
    attention: tuple[str, ...] = ()
    mlp: tuple[str, ...] = ()
    inner: str = "intermediate_size"
    experts: bool = False
    norms: int = 2
    normed: bool = False
    softcap: float | None = None
    sinks: bool = False
    parallel: bool = False

    @property
    def parts(self) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
        """The projections of attention and of the MLP of its blocks, by name; None: they are not told."""
        if self.seven:
            return PROJECTIONS[:4], PROJECTIONS[4:]
        return (self.attention, self.mlp) if self.attention else None


_APART, _ONE = PROJECTIONS[:4], ("query_key_value", "dense")
_UP, _JOINED = ("up_proj", "down_proj"), ("gate_up_proj", "down_proj")
_FULL, _FOUR = ("fc1", "fc2"), ("dense_h_to_4h", "dense_4h_to_h")
_TWO = "two projections in its MLP"
_ROUTED = "experts, packed in one tensor"
_UNEVEN = "its keys and values are not equally wide in all layers"
_LATENT = "keeps a small latent, and what is rotated of its keys beside it"
_NORMED = "norms its keys after it has rotated them"
_STATES = "layers without attention keep a state that all tokens have gone into"
_DELTA = "linear attention (gated delta rule) in most layers"
_SCANS = "a state-space scan (mamba) in most layers"
_CONV = "short convolutions in most layers"

FAMILIES: Mapping[str, Family] = {
    "afmoe": Family(_ROUTED + "; windows", head_dim=128, windows=Windows(1024, every=4), seven=False, experts=True),
    "apertus": Family(_TWO, seven=False, attention=_APART, mlp=_UP, normed=True),
    "arcee": Family(_TWO, head_dim=128, seven=False, attention=_APART, mlp=_UP),
    "bamba": Family(_SCANS, kv_heads=8, partial=True, stateful=_STATES, seven=False),
    "cohere": Family(
        "rotates pairs of neighbours; scales its logits; attention beside the MLP", tied=True, norms=1, parallel=True
    ),
    "cohere2": Family(
        "as cohere; windows; layers without rotary embedding",
        tied=True,
        windows=Windows(4096, every=4),
        unrotated=True,
        norms=1,
        parallel=True,
    ),
    "deepseek_v2": Family(f"{_LATENT}; {_ROUTED}", unmoved=f"it {_LATENT}", seven=False, experts=True),
    "deepseek_v3": Family(f"{_LATENT}; {_ROUTED}", kv_heads=128, unmoved=f"it {_LATENT}", seven=False, experts=True),
    "dots1": Family(_ROUTED + "; windows", kv_heads=32, windows=Windows(4096), seven=False, experts=True),
    "ernie4_5": Family("rotates pairs of neighbours", tied=True, head_dim=128, kv_heads=2),
    "ernie4_5_moe": Family("rotates pairs of neighbours; " + _ROUTED, tied=True, kv_heads=4, seven=False, experts=True),
    "exaone4": Family(
        "windows; layers without rotary embedding",
        kv_heads=32,
        windows=Windows(4096, every=4),
        unrotated=True,
        normed=True,
    ),
    "exaone_moe": Family(
        "as exaone4; " + _ROUTED, kv_heads=32, windows=Windows(4096, every=4), unrotated=True, seven=False, experts=True
    ),
    "falcon_h1": Family(
        "a state-space scan (mamba) beside the attention of each layer; scales what it computes",
        kv_heads=8,
        stateful=_STATES,
        seven=False,
    ),
    "gemma": Family("scales its embeddings", tied=True, head_dim=256, kv_heads=16),
    "gemma2": Family(
        "caps scores and logits; windows",
        tied=True,
        head_dim=256,
        kv_heads=4,
        windows=Windows(4096, every=2),
        capped=True,
        norms=4,
        softcap=50.0,
    ),
    "gemma3_text": Family(
        "windows; two rotary embeddings",
        tied=True,
        head_dim=256,
        kv_heads=4,
        windows=Windows(4096, every=6),
        capped=True,
        norms=4,
        normed=True,
    ),
    "gemma4_text": Family(
        "windows; layers whose heads differ in width; a part of each head is rotated",
        tied=True,
        head_dim=256,
        kv_heads=4,
        windows=Windows(512, every=6),
        partial=True,
        capped=True,
        ropes=("proportional",),
        uneven=_UNEVEN,
        seven=False,
    ),
    "glm": Family(
        "rotates half of each head, in pairs of neighbours",
        head_dim=128,
        kv_heads=2,
        partial=True,
        seven=False,
        attention=_APART,
        mlp=_JOINED,
    ),
    "glm4": Family(
        "as glm", head_dim=128, kv_heads=2, partial=True, seven=False, attention=_APART, mlp=_JOINED, norms=4
    ),
    "glm4_moe": Family("rotates half of each head; " + _ROUTED, kv_heads=8, partial=True, seven=False, experts=True),
    "gpt_neox": Family(
        "rotates a quarter of each head; one projection for queries, keys and values",
        partial=True,
        seven=False,
        attention=_ONE,
        mlp=_FOUR,
        parallel=True,
    ),
    "gpt_oss": Family(
        "attention sinks; windows; " + _ROUTED,
        head_dim=64,
        kv_heads=8,
        windows=Windows(128, every=2),
        seven=False,
        experts=True,
        attention=_APART,
        sinks=True,
    ),
    "granite": Family("scales embeddings, scores, residuals and logits"),
    "granitemoe": Family("as granite; " + _ROUTED, seven=False, experts=True, attention=_APART),
    "granitemoehybrid": Family(f"as granitemoeshared; {_SCANS}", stateful=_STATES, seven=False, experts=True),
    "granitemoeshared": Family("as granitemoe, with an expert for all", seven=False, experts=True),
    "helium": Family("rotates pairs of neighbours", head_dim=128, kv_heads=20),
    "hunyuan_v1_dense": Family(_NORMED, unmoved=f"it {_NORMED}", normed=True),
    "hunyuan_v1_moe": Family(_NORMED + "; " + _ROUTED, unmoved=f"it {_NORMED}", seven=False, experts=True),
    "hyperclovax": Family("scales embeddings, scores, residuals and logits", head_dim=128, multiplies=True, norms=4),
    "jais2": Family(_TWO, head_dim=128, seven=False, attention=_APART, mlp=_UP),
    "jamba": Family(
        f"{_SCANS}; {_ROUTED}; no rotary embedding", kv_heads=8, stateful=_STATES, seven=False, experts=True
    ),
    "lfm2": Family(_CONV, tied=True, kv_heads=8, stateful=_STATES, seven=False),
    "lfm2_moe": Family(f"{_CONV}; {_ROUTED}", tied=True, kv_heads=8, stateful=_STATES, seven=False, experts=True),
    "llama": Family(),
    "mamba2": Family("a state-space scan in all layers, no attention", stateful=_STATES, seven=False),
    "minimax_m2": Family(
        "rotates a part of each head; " + _ROUTED,
        head_dim=128,
        kv_heads=8,
        partial=True,
        seven=False,
        experts=True,
        attention=_APART,
        normed=True,
    ),
    "ministral": Family("windows", kv_heads=8, windows=Windows(4096, every=0)),
    "ministral3": Family("scales queries by their position", head_dim=128, kv_heads=8, windows=Windows(typed=False)),
    "mistral": Family("windows", kv_heads=8, windows=Windows(4096, typed=False)),
    "mixtral": Family(_ROUTED, kv_heads=8, windows=Windows(typed=False), seven=False, experts=True, attention=_APART),
    "nanochat": Family(
        "rotates the other way round; caps its logits; two projections in its MLP",
        capped=True,
        seven=False,
        attention=_APART,
        mlp=_FULL,
        normed=True,
    ),
    "nemotron": Family(
        "rotates half of each head; two projections in its MLP",
        head_dim=128,
        partial=True,
        seven=False,
        attention=_APART,
        mlp=_UP,
    ),
    "nemotron_h": Family(
        f"each layer is a state-space scan (mamba), an attention or an MLP; {_ROUTED}; no rotary embedding",
        head_dim=128,
        kv_heads=8,
        stateful=_STATES,
        seven=False,
        experts=True,
    ),
    "olmo": Family("norms without weights"),
    "olmo2": Family("norms behind the layers", normed=True),
    "olmo3": Family("as olmo2; windows", windows=Windows(4096, every=4), normed=True),
    "olmo_hybrid": Family(
        f"{_DELTA}; no rotary embedding where its config.json names none", stateful=_STATES, seven=False
    ),
    "olmoe": Family(_ROUTED, seven=False, experts=True, attention=_APART, normed=True),
    "flex_olmo": Family("as olmo2; " + _ROUTED, seven=False, experts=True, attention=_APART, normed=True),
    "persimmon": Family(
        "rotates half of each head; one projection for queries, keys and values",
        partial=True,
        seven=False,
        attention=_ONE,
        mlp=_FOUR,
        normed=True,
    ),
    "phi": Family(
        "rotates half of each head; attention beside the MLP",
        partial=True,
        seven=False,
        attention=(*_APART[:3], "dense"),
        mlp=_FULL,
        norms=1,
        parallel=True,
    ),
    "phi3": Family(
        "one projection for queries, keys and values; windows",
        windows=Windows(typed=False),
        partial=True,
        seven=False,
        attention=("qkv_proj", "o_proj"),
        mlp=_JOINED,
    ),
    "qwen2": Family("windows where it asks for them", kv_heads=32, windows=Windows(4096, asked=True)),
    "qwen2_moe": Family(_ROUTED, kv_heads=16, windows=Windows(4096, asked=True), seven=False, experts=True),
    "qwen3": Family(
        "windows where it asks for them", head_dim=128, kv_heads=32, windows=Windows(4096, asked=True), normed=True
    ),
    "qwen3_5_moe_text": Family(
        f"{_DELTA}; {_ROUTED}; the text model of qwen3_5_moe",
        head_dim=256,
        kv_heads=2,
        partial=True,
        stateful=_STATES,
        seven=False,
        experts=True,
    ),
    "qwen3_5_text": Family(
        f"{_DELTA}; the text model of qwen3_5", head_dim=256, kv_heads=4, partial=True, stateful=_STATES, seven=False
    ),
    "qwen3_moe": Family(
        _ROUTED,
        kv_heads=4,
        windows=Windows(4096, typed=False, asked=True),
        seven=False,
        experts=True,
        attention=_APART,
        normed=True,
        inner="moe_intermediate_size",
    ),
    "qwen3_next": Family(
        f"{_DELTA}; {_ROUTED}", head_dim=256, kv_heads=2, partial=True, stateful=_STATES, seven=False, experts=True
    ),
    "seed_oss": Family("", head_dim=128, kv_heads=8),
    "smollm3": Family(
        "layers without rotary embedding", tied=True, kv_heads=4, windows=Windows(asked=True), unrotated=True
    ),
    "stablelm": Family("rotates a quarter of each head", kv_heads=32, partial=True),
    "starcoder2": Family(
        "two projections in its MLP; windows",
        tied=True,
        kv_heads=2,
        windows=Windows(typed=False),
        seven=False,
        attention=_APART,
        mlp=("c_fc", "c_proj"),
    ),
    "vaultgemma": Family(
        "as gemma2", tied=True, head_dim=256, kv_heads=4, windows=Windows(4096, every=2), capped=True, softcap=50.0
    ),
}

UNUSABLE: Mapping[str, str] = {
    **dict.fromkeys(
        ("gpt2", "gpt_neo", "gpt_bigcode", "opt", "biogpt"),
        "its positions are absolute (learnt vectors), so a cache cannot be moved to another place",
    ),
    **dict.fromkeys(("bloom", "mpt"), "its positions are attention biases (ALiBi), not rotary"),
    "llama4_text": "it scales queries by their place in the cache, not by their position",
    "falcon": "its positions may be attention biases (ALiBi), and masc does not tell which",
    **dict.fromkeys(("t5", "bart", "mt5"), "it is an encoder-decoder, not a causal decoder"),
    **dict.fromkeys(("bert", "roberta", "modernbert"), "it is an encoder, not a causal decoder"),
}
"""Types that no proof can help, and why."""

_NOTHING = Family()


def family_of(kind: str) -> Family:
    """The declaration of a type; of one that is not declared, what holds of most."""
    return FAMILIES.get(kind, _NOTHING)
