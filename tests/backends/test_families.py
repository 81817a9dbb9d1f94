"""Every type of model that masc declares, by proof on a tiny random model of it; and that a proof can fail."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from families import LIKE_OTHERS, MAKES, make_family

from masc.backends.torch.model.base import Base
from masc.backends.torch.model.depths import finished, noting
from masc.backends.torch.proving import identities
from masc.backends.torch.proving.plain import narrowed
from masc.backends.torch.proving.prove import proof_of
from masc.compiler.models.facts import check_facts, read_config
from masc.compiler.models.families import FAMILIES
from masc.compiler.models.proof import FUSED, KV, MEANS, MOVED, OWN
from masc.compiler.models.size import projections
from support import ROWS, chain, make_program


def test_every_declared_type_is_made() -> None:
    assert MAKES.keys() == FAMILIES.keys()
    shown = json.loads((Path(__file__).parents[2] / "benchmarks/families.json").read_text(encoding="utf-8"))
    assert shown.keys() == FAMILIES.keys(), "run `python benchmarks/families.py` with the types that are missing"
    assert all(float(one["logits"]) < 1e-4 and float(one["slopes"]) < 1e-5 for one in shown.values())


@pytest.mark.parametrize("kind", [kind for kind in FAMILIES if kind not in LIKE_OTHERS])
def test_what_is_declared_of_a_type_is_proven(tmp_path: Path, kind: str) -> None:
    """It can do what its declaration says, and nothing that it says it cannot."""
    family = FAMILIES[kind]
    base = Base(make_family(tmp_path / kind, kind), torch.float32)
    facts = read_config(tmp_path / kind)
    assert check_facts(facts, kind) == []
    check_facts_of(base, facts, tmp_path / kind)
    check_depths_of(base)
    proof = proof_of(base, "float32")
    shown = json.dumps([vars(one) for one in proof.identities], indent=1)
    assert [one.name for one in proof.identities] == list(MEANS)
    assert proof.holds(OWN), shown
    assert proof.holds(KV), shown
    assert (base.recurrent is None) == (not family.stateful)
    assert proof.holds(MOVED) == (not family.stateful and not family.unmoved), shown
    assert proof.holds(FUSED) == (not family.stateful and not family.unmoved and not family.uneven), shown


def check_facts_of(base: Base, facts: Any, folder: Path) -> None:
    """What the compiler reads of a config.json against the modules."""
    windows = base.windows
    limited = [] if windows is None else [i for i, width in enumerate(windows.tolist()) if width < 1 << 62]
    assert list(facts.windowed) == limited
    if not FAMILIES[facts.model_type].uneven and not FAMILIES[facts.model_type].unmoved:
        assert (facts.kv_heads, facts.head_dim) == base.kv_shape
    if not FAMILIES[facts.model_type].unmoved and base.recurrent is None:
        assert FAMILIES[facts.model_type].unrotated == any(rotation is None for rotation, _ in base.rotations)
    shapes = projections(folder, facts)
    if shapes is not None:
        for block in base.model.get_decoder().layers:
            held = {n.rpartition(".")[2]: m for n, m in block.named_modules() if isinstance(m, torch.nn.Linear)}
            assert {n: (m.in_features, m.out_features) for n, m in held.items()} == dict(shapes)


def check_depths_of(base: Base) -> None:
    """Behind the last layer the logit lens reads what the model itself says."""
    ids, place, kept = torch.arange(1, 8)[None], torch.arange(7)[None], []
    mask = base.mask(None, torch.ones(1, 7, dtype=torch.bool), place)
    with torch.no_grad(), base.applying(None), noting(base, [base.layers - 1], lambda _, states: kept.append(states)):
        out = base.run(ids, place, mask, base.cache(None))
        torch.testing.assert_close(finished(base, kept[0]), out, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [("olmo", {}), ("olmo", {"clip_qkv": 2.0}), ("olmoe", {"clip_qkv": 2.0}), ("olmo2", {}), ("mamba2", {})],
)
def test_what_computes_in_float32_or_clips_in_place(kind: str, changes: dict[str, Any], tmp_path: Path) -> None:
    """Runs and trains in bfloat16 as in float32, adapters on all projections."""
    folder, edge = make_family(tmp_path / "m", kind, **changes), "hidden" if FAMILIES[kind].stateful else "kv"
    losses, gradients = [], []
    for dtype in ("float32", "bfloat16"):
        program = make_program(chain(("a", 1, "norm"), ("b", 0, "norm"), edge=edge), folder, dtype=dtype)
        loss = program(ROWS).loss
        loss.backward()
        losses.append(float(loss))
        gradients.append(torch.cat([p.grad.flatten() for p in program.trainable().values() if p.grad is not None]))
        assert len(program.generate(ROWS)) == len(ROWS)
        check_depths_of(program.base("a"))
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    assert torch.cosine_similarity(gradients[0], gradients[1], dim=0) > 0.95


def broken(base: Base, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Break what one identity rests on."""
    from masc.backends.torch.engine import rollout

    if how == "windows":
        monkeypatch.setattr(Base, "windows", None)
    elif how == "cap":
        monkeypatch.setattr(base, "_scaling", (1.0, None))
    elif how == "detached":
        cut = base.model.get_decoder().layers[1].mlp
        cut.register_forward_hook(lambda module, given, out: out.detach())
    elif how == "padding":
        monkeypatch.setattr(rollout, "_at", lambda tensor, column: tensor[:, -1:])


@pytest.mark.parametrize(
    ("how", "name"), [("windows", "chain"), ("cap", "decoding"), ("detached", "differences"), ("padding", "batch")]
)
def test_what_is_broken_does_not_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, name: str) -> None:
    """Each identity notices what it is there for."""
    base = Base(make_family(tmp_path / "m", "gemma2"), torch.float32)
    program = identities.adapted(base)
    looks = {
        "chain": lambda: identities.chain(base),
        "decoding": lambda: identities.decoding(base),
        "differences": lambda: identities.differences(program, True),
        "batch": lambda: identities.batch(program),
    }
    with narrowed(base, 12):
        assert looks[name]() < 1e-4
        broken(base, how, monkeypatch)
        assert looks[name]() > 1e-3


def test_a_rotation_that_nobody_knows_is_refused(tmp_path: Path) -> None:
    """Keys that are normed behind their rotation: moving them would be wrong, and is an error."""
    from masc.dsl.diagnostics import MascError

    base = Base(make_family(tmp_path / "m", "hunyuan_v1_dense"), torch.float32)
    with pytest.raises(MascError, match="E0522"):
        base.rotate(torch.randn(1, 2, 3, 8), torch.tensor([4]), 0)
