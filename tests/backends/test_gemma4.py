"""Gemma 4's small models: layers that read what earlier ones keep, and embeddings by token in each layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from engines import same
from families import make_family

from masc.backends.torch.model.base import Base
from masc.backends.torch.model.per_layer import factors_of, summed
from masc.backends.torch.proving.identities import ROWS, apart, awake, gradients, program_of
from masc.backends.torch.proving.prove import proof_of
from masc.backends.torch.training.reached import reached
from masc.compiler.models.facts import check_facts, read_config
from masc.compiler.models.locate import layers_diagnostic
from masc.compiler.models.proof import FUSED, KV, MOVED, OWN

CHAIN = """\
mas 1
model m = "a/model"
agent first on m { user "Plan it. {q}" THINK adapt lora(rank = 2, alpha = 4) }
agent last on m { user "{q}" adapt lora(rank = 2, alpha = 4) answer (max_tokens = 6) }
graph proof(q) -> answer { first -> last : kv(LAYERS) }
"""


def chain(base: Base, think: str = "", layers: str = "") -> Any:
    return awake(program_of(base, CHAIN.replace("THINK", think).replace("LAYERS", layers)))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    """Six layers, of which the last three have no keys and values."""
    kinds = ["sliding_attention", "sliding_attention", "full_attention"] * 2
    sizes = {"num_hidden_layers": 6, "layer_types": kinds, "num_kv_shared_layers": 3}
    deep = {"hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 262}
    folder = make_family(tmp_path_factory.mktemp("gemma") / "m", "gemma4_text", **sizes, **deep)
    return Base(folder, torch.float32)


def test_it_is_proven(base: Base) -> None:
    proof = proof_of(base, "float32")
    assert all(proof.holds(names) for names in (OWN, KV, MOVED)), proof.identities
    assert not proof.holds(FUSED)
    facts = read_config(base.folder)
    assert check_facts(facts, "gemma4_text") == []
    assert (facts.layers, facts.caches) == (base.layers, base.caches) == (6, 3)
    layout, states = base.kept
    assert (len(layout.places), states) == (2 * 3, ())


@pytest.mark.parametrize("think", ["", "think 2"])
@pytest.mark.parametrize("layers", ["", "layers = 0..1"])
def test_a_gradient_reaches_what_the_plan_says(base: Base, think: str, layers: str) -> None:
    """Of an agent that feeds nothing back, what the caches that others read are made of, and nothing above."""
    program = chain(base, think, layers)
    found = gradients(program)
    assert {name for name, gradient in found.items() if gradient.abs().max() > 0} == set(reached(program))
    assert any(".layers.5." in name for name in reached(program) if ".first." in name) == bool(think)
    program.zero_grad()
    with torch.enable_grad():
        program(ROWS, recompute=True).loss.backward()
    again = {name: p.grad for name, p in program.trainable().items() if p.grad is not None}
    assert max(apart(again[name], found[name]) for name in again) < 1e-5


def test_who_reads_another_layers_cache_sees_what_that_one_sees(base: Base) -> None:
    """All layers that keep something are all layers; without one, those that read its cache lack it, too."""
    whole, named, some = (chain(base, "think 2", layers) for layers in ("", "layers = 0..2", "layers = 0..1"))
    with torch.no_grad():
        logits = [program(ROWS).logits for program in (whole, named, some)]
    assert apart(logits[1], logits[0]) < 1e-5
    assert apart(logits[2], logits[0]) > 1e-3
    for program in (whole, some):
        same(program.say(ROWS), program.say(ROWS, engine="exact"))
    full = [block.self_attn.reads for block in base.model.get_decoder().layers[3:]]
    assert full == [1, 1, 2]


def test_layers_without_a_cache_cannot_be_named(base: Base) -> None:
    facts = read_config(base.folder)
    assert layers_diagnostic(2, facts) is None
    for last, said in ((3, "layer 3 keeps no keys and values: the last 3 layers"), (6, "there is no layer 6")):
        found = layers_diagnostic(last, facts)
        assert found is not None
        assert found.code == "E0508"
        assert found.message.startswith(said)
        assert found.hint is not None
        assert found.hint.endswith(" 2")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_tokens_are_found_again_and_vectors_are_none(base: Base, dtype: torch.dtype) -> None:
    before = next(base.model.parameters()).dtype
    assert base.per_layer is not None
    try:
        base.model.to(dtype)
        ids = torch.arange(base.rows)[None]
        embedded = base.embed(ids)
        first = [embedded[0].eq(one).all(-1).nonzero()[0].item() for one in embedded[0]]
        assert base.per_layer.tokens(embedded)[0].tolist() == first
        assert (base.per_layer.tokens(embedded * 1.5) == base.per_layer.padding).sum() >= base.rows - 2
        near = embedded.clone()
        near[..., -1] += 1.0
        assert set(base.per_layer.tokens(near)[0].tolist()) == {base.per_layer.padding}
    finally:
        base.model.to(before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_hardly_any_two_embeddings_come_to_the_same(dtype: torch.dtype) -> None:
    """Of as many as a vocabulary has, narrow ones in a wider dtype among them: else tokens would be lost."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(100_000, 8, generator=generator, dtype=torch.bfloat16).unique(dim=0)
    assert len(summed(rows.to(dtype), factors_of(8)).unique()) == len(rows) > 99_000


def test_it_runs_in_bfloat16(base: Base) -> None:
    program = chain(Base(base.folder, torch.bfloat16), "think 2")
    assert all(row["answer"].scored for row in program.say(ROWS))
