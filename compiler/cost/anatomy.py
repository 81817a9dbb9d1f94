"""The sizes of a base model that its cost follows from, read off its `config.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from masc.compiler.files.reading import read_json
from masc.compiler.language.values import PROJECTIONS
from masc.compiler.models.facts import ModelFacts, Shapes, of_text, sized
from masc.compiler.models.families import family_of
from masc.compiler.models.folder.headers import weight_files
from masc.compiler.models.folder.tensors import EMBEDDING, KNOWN, expected
from masc.compiler.models.size import linears

WIDTHS = {"bfloat16": 2, "float32": 4, "float64": 8}
"""Bytes of one number, by the dtype of a base model."""


@dataclass(frozen=True)
class Experts:
    """The experts of a layer, gated MLPs: how many there are, how many of them read a position, how wide they are."""

    count: int
    each: int
    width: int

    def held(self, hidden: int) -> int:
        """Numbers in them and in the router."""
        return self.count * (3 * self.width + 1) * hidden

    def read(self, hidden: int) -> int:
        """Numbers that one position is multiplied with."""
        return (self.each * 3 * self.width + self.count) * hidden


@dataclass(frozen=True)
class Anatomy:
    """A decoder as far as its cost goes. parameters: all that it holds, tied embeddings once. projections: the
    linear maps of one layer; attention, mlp: their names, that which ends each of them last. norms: how many norms
    as wide as the hidden states a layer has; normed: whether queries and keys have norms of their own; scored: how
    many tensors of scores attention keeps, where it computes them one by one; parallel: whether it stands beside
    the MLP; activation: of the MLP, as config.json calls it (clamped: gates within limits, as those of gpt_oss);
    experts: what it has for an MLP, if it has. windowed: how many layers see only the last `window` positions.
    packed: bytes of a weight of these projections in a checkpoint that is quantised (None: they are numbers)."""

    parameters: int
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    projections: Shapes
    attention: tuple[str, ...] = PROJECTIONS[:4]
    mlp: tuple[str, ...] = PROJECTIONS[4:]
    norms: int = 2
    normed: bool = False
    scored: int = 0
    parallel: bool = False
    activation: str | None = None
    experts: Experts | None = None
    window: int | None = None
    windowed: int = 0
    packed: float | None = None

    @property
    def layer(self) -> int:
        """Numbers in the projections of one layer."""
        return sum(into * out for into, out in self.projections.values())

    @property
    def inner(self) -> int:
        """How wide the MLP is between its projections; of experts together."""
        return self.experts.each * self.experts.width if self.experts else self.projections[self.mlp[-1]][0]

    @property
    def readers(self) -> tuple[tuple[str, ...], ...]:
        """Projections that read the same input, but for that which reads what attention gives."""
        return self.attention[:-1], self.mlp[:-1], self.mlp[-1:]

    @property
    def queries(self) -> int:
        """Numbers of one position's queries in one layer."""
        return self.heads * self.head_dim

    @property
    def cached(self) -> int:
        """Numbers that one position leaves in a cache, over all layers: keys and values."""
        return 2 * self.layers * self.kv_heads * self.head_dim

    @property
    def read(self) -> int:
        """Numbers that are read for one more token: all but the input embeddings, of which it is one row."""
        experts = self.experts.read(self.hidden) if self.experts else 0
        return self.layers * (self.layer + experts) + self.vocabulary * self.hidden


def anatomy(folder: Path, facts: ModelFacts) -> Anatomy | None:
    """Of the model in a folder; None where its config.json does not say enough, or what it says is not known here."""
    shapes, family = linears(folder, facts), family_of(facts.model_type)
    try:
        config = of_text(read_json(folder / "config.json"))
        tensors = expected(config, facts) if facts.model_type in KNOWN else {}
    except (OSError, ValueError, AttributeError):
        return None
    vocabulary = tensors[EMBEDDING][0] if tensors else sized(config, "vocab_size")
    if shapes is None or family.parts is None or vocabulary is None:
        return None
    experts = None if family.parts[1] else _experts(config, family.inner)
    if experts is None and not family.parts[1]:
        return None
    norms = family.norms - 2 * (config.get("use_post_norm") is False)
    blocks = facts.layers * sum(into * out for into, out in shapes.values())
    beside = (facts.layers * norms + 1 + vocabulary * (1 if facts.tied else 2)) * facts.hidden
    beside += facts.layers * experts.held(facts.hidden) if experts else 0
    capped = family.capped and bool(config.get("attn_logit_softcapping", family.softcap))
    numbers = sum(prod(shape) for shape in tensors.values()) or blocks + beside
    return Anatomy(
        parameters=numbers,
        layers=facts.layers,
        hidden=facts.hidden,
        heads=facts.heads,
        kv_heads=facts.kv_heads,
        head_dim=facts.head_dim,
        vocabulary=vocabulary,
        projections=shapes,
        attention=family.parts[0],
        mlp=family.parts[1],
        norms=norms,
        normed=bool(config.get("use_qk_norm", config.get("qk_layernorm", family.normed))),
        scored=2 if capped else int(family.sinks),
        parallel=bool(config.get("use_parallel_residual", family.parallel)),
        activation="clamped" if config.get("swiglu_limit") else config.get("hidden_act"),
        experts=experts,
        window=facts.window,
        windowed=len(facts.windowed),
        packed=None if facts.method is None else _packed(folder, numbers, blocks),
    )


def _experts(config: Mapping[str, Any], width: str) -> Experts | None:
    """None where not all layers have them, or config.json does not tell of them."""
    if config.get("mlp_only_layers") or config.get("decoder_sparse_step", 1) != 1:
        return None
    count = sized(config, "num_experts") or sized(config, "num_local_experts")
    each, wide = sized(config, "num_experts_per_tok"), sized(config, width)
    return None if count is None or each is None or wide is None else Experts(count, each, wide)


def _packed(folder: Path, numbers: int, blocks: int) -> float:
    """By the size of its files, in which all but the projections of its blocks are numbers of two bytes."""
    stored = sum((folder / name).stat().st_size for name in weight_files(folder))
    return max(0.0, stored - 2 * (numbers - blocks)) / blocks
