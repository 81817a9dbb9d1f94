"""What was proven of a model decides whether the compiler allows it, until the model or a version changes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from folders import fill
from masc.compiler.models.facts import lacking
from masc.compiler.models.locate import look_into
from masc.compiler.models.proof import MEANS, Identity, Proof, versions
from masc.compiler.models.proven import remember

CONFIG = {"model_type": "unheard_of", "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}


def proof(**figures: float) -> Proof:
    held = tuple(Identity(name, figures.get(name, 0.0), 1e-4) for name in MEANS)
    return Proof("unheard_of", "float32", *versions(), held)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MASC_CACHE", str(tmp_path / "cache"))
    (made := tmp_path / "m").mkdir()
    (made / "config.json").write_text(json.dumps(CONFIG))
    return fill(made)


def codes(folder: Path) -> list[str]:
    return [told.code for told in look_into(folder, "m")[1]]


def test_a_proof_allows_a_model_until_it_changes(folder: Path) -> None:
    assert codes(folder) == ["E0504"]
    remember(folder, proof())
    assert codes(folder) == []
    (folder / "config.json").write_text(json.dumps(CONFIG | {"rms_norm_eps": 1e-5}))
    assert codes(folder) == ["E0504"]


def test_a_failed_and_an_old_proof_refuse_it(folder: Path) -> None:
    remember(folder, proof(batch=0.5))
    assert codes(folder) == ["E0524"]
    assert "a batch is its rows one by one (0.5" in look_into(folder, "m")[1][0].message
    remember(folder, replace(proof(), transformers="1.0"))
    assert codes(folder) == ["E0525"]


def test_what_did_not_hold_is_refused_where_an_edge_asks_for_it(folder: Path) -> None:
    remember(folder, proof(moved=0.5))
    facts, told = look_into(folder, "m")
    assert facts is not None
    assert told == []
    found = {ability: lacking(facts, ability, "m") for ability in ("keys", "moved", "fused")}
    assert {ability: one.code if one else None for ability, one in found.items()} == {
        "keys": None,
        "moved": "E0522",
        "fused": "E0522",
    }
