"""Adapters are PEFT's: what masc trains and runs is what PEFT computes of the same files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft.tuners.lora import LoraLayer

from graphs import GRAPHS
from masc.backends.torch.model import adapters, applying
from masc.backends.torch.model.base import Base
from masc.backends.torch.model.prompts import answer_ids, prompt_of
from masc.compiler.ir.adapter import Lora
from support import ROWS, chain, make_model, make_program

KINDS = ["rslora = true", "dora = true", "rslora = true, dora = true"]


def one(kind: str, more: str = "") -> str:
    return chain(("a", 0, "norm"), adapt=f"lora({', '.join(filter(None, ('rank = 4, alpha = 8', kind, more)))})")


def stir(program: Any) -> None:
    """Let lengths, too, be others than those of a fresh adapter."""
    generator = torch.Generator().manual_seed(3)
    for name, parameter in program.trainable().items():
        if "magnitude" in name:
            parameter.data.mul_(1 + 0.3 * torch.randn(parameter.shape, generator=generator))


def peft_of(program: Any, folder: Path, tiny: Path, train: bool = False) -> Any:
    """What PEFT makes of the adapter of agent `a`, as it is saved."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    program.save_weights(folder)
    base = AutoModelForCausalLM.from_pretrained(tiny, dtype=torch.float32)
    return PeftModel.from_pretrained(base, folder / "adapters" / "a", is_trainable=train)


@pytest.mark.parametrize("kind", ["", *KINDS])
@pytest.mark.parametrize("model", ["tiny", "biased"])
def test_logits_and_gradients_are_those_of_peft(kind: str, model: str, tiny: Path, tmp_path: Path) -> None:
    folder = tiny if model == "tiny" else make_model(tmp_path / "biased", "qwen2")
    program = make_program(one(kind), folder)
    stir(program)
    theirs = peft_of(program, tmp_path / "saved", folder, train=True)
    theirs.eval()
    row = ROWS[2]
    out = program([row])
    scored = out.outputs["answer"]
    base = program.base("a")
    ids = prompt_of(base, program.plan.agent("a"), {"q": row["q"]}).ids
    label = answer_ids(base, row["answer"])
    logits = theirs(torch.tensor([[*ids, *label]])).logits[:, len(ids) - 1 : -1]
    assert torch.allclose(scored.logits, logits, atol=1e-5)
    loss = torch.nn.functional.cross_entropy(logits[0], torch.tensor(label))
    loss.backward()
    out.loss.backward()
    own = {name.replace(".a.", ".default."): p.grad for name, p in base.model.named_parameters() if ".lora_" in name}
    found = {n.removeprefix("base_model.model."): p.grad for n, p in theirs.named_parameters() if ".lora_" in n}
    assert own.keys() == found.keys()
    assert all(own[name].abs().max() > 0 for name in own)
    assert all(torch.allclose(own[name], found[name], atol=1e-5) for name in own)
    assert ("dora" in kind) == any("magnitude" in name for name in own)


def test_rslora_scales_by_the_root_of_the_rank(tiny: Path) -> None:
    scales = []
    for rslora in (False, True):
        base = Base(tiny, torch.float32)
        adapters.add(base.model, "a", Lora(rank=16, alpha=8.0, rslora=rslora), seed=0)
        scales.append({layer.scaling["a"] for layer in adapters.layers_of(base.model)})
    assert scales == [{0.5}, {2.0}]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_fresh_dora_changes_nothing(dtype: str, tiny: Path) -> None:
    fresh = make_program(one("dora = true"), tiny, awake=False, dtype=dtype)
    frozen = make_program(chain(("a", 0, "norm"), adapt="none"), tiny, dtype=dtype)
    with torch.no_grad():
        assert fresh(ROWS).outputs["answer"].logits.equal(frozen(ROWS).outputs["answer"].logits)
    magnitudes = [p for name, p in fresh.trainable().items() if "magnitude" in name]
    assert len(magnitudes) == 3 * 7
    assert {p.dtype for p in magnitudes} == {torch.float32}


def test_dora_drops_as_peft_does(tiny: Path, tmp_path: Path) -> None:
    """PEFT drops from what the base reads, too. With the same draws the same loss; and nothing while it is still."""
    program = make_program(one("dora = true", "dropout = 0.5"), tiny)
    stir(program)
    theirs = peft_of(program, tmp_path / "saved", tiny, train=True)
    x = torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(0))
    layer = next(m for m in program.base("a").model.modules() if isinstance(m, adapters.LoraLayer))
    other = next(m for m in theirs.modules() if isinstance(m, adapters.LoraLayer))
    program.train()
    theirs.train()
    results = []
    for module in (layer, other):
        torch.manual_seed(7)
        with applying.using("a"):
            results.append(module(x))
    assert torch.allclose(*results, atol=1e-6)
    with applying.using("a"), applying.still():
        quiet = layer(x)
    assert not torch.allclose(quiet, results[0], atol=1e-3)
    assert torch.allclose(quiet, theirs.eval() and other(x), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_adapters_stand_beside_each_other(kind: str, tiny: Path) -> None:
    """One base, an adapter of another kind for each agent: each agent computes as it does alone."""
    text = chain(("a", 0, "norm"), ("b", 0, "norm"), adapt="lora(rank = 4, alpha = 8)")
    both = make_program(text.replace("alpha = 8", f"alpha = 8, {kind}", 1), tiny)
    stir(both)
    alone = make_program(one(kind), tiny, awake=False)
    awake = both.trainable()
    for name, parameter in alone.trainable().items():
        parameter.data.copy_(awake[name])
    written = [program.double().trace(ROWS, forced=True).turns["a#1"].values for program in (both, alone)]
    width = written[0][0].shape[2]
    for mine, theirs in zip(*written, strict=True):
        torch.testing.assert_close(mine[:, :, :width], theirs[:, :, :width], atol=1e-9, rtol=1e-9)


def test_rounds_tell_apart_what_they_give_to_lengths(tiny: Path) -> None:
    """Aliases stand for the lengths as well: the contributions of rounds are the gradient."""
    program = make_program(GRAPHS["rounds"].replace("rank = 4", "rank = 4, dora = true"), tiny)
    stir(program)
    rounds: dict[str, dict[str, torch.Tensor]] = {}
    with program.holding(rounds=rounds):
        program(ROWS).loss.backward()
    base = program.base("a").model
    for name, parameter in adapters.tensors(base, "a").items():
        parts = [rounds[f"a#{n}"][name] for n in (1, 2, 3) if name in rounds.get(f"a#{n}", {})]
        assert len(parts) > 1
        assert parameter.grad is not None
        assert torch.allclose(torch.stack(parts).sum(0), parameter.grad, atol=1e-6)


def test_lengths_are_saved_and_loaded(tiny: Path, tmp_path: Path) -> None:
    program = make_program(one("dora = true"), tiny)
    stir(program)
    program.save_weights(tmp_path / "saved")
    other = make_program(one("dora = true"), tiny, awake=False)
    other.load_weights(tmp_path / "saved")
    theirs = other.trainable()
    assert all(p.equal(theirs[name]) for name, p in program.trainable().items())


def test_the_adapters_of_a_team_are_those_that_peft_injects(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PEFT's injection looks at all that is there, so that only the first on each set of projections goes through it.
    The others have the same numbers, and the same is noted of them, as alone on a base."""
    plain, other = Lora(rank=4, alpha=8.0), Lora(rank=2, alpha=4.0, rslora=True, dora=True, dropout=0.1)
    few = Lora(rank=4, alpha=8.0, targets=("attention",))
    asked = {"a": plain, "b": other, "c": few, "d": few, "e": plain}
    injected: list[str] = []
    inject = adapters.inject_adapter_in_model

    def counted(config: Any, base: Any, adapter_name: str) -> None:
        injected.append(adapter_name)
        inject(config, base, adapter_name=adapter_name)

    monkeypatch.setattr(adapters, "inject_adapter_in_model", counted)
    team = Base(tiny, torch.float32)
    team.add_adapters(asked, seed=3)
    assert injected == ["a", "c"]
    for agent, lora in asked.items():
        alone = Base(tiny, torch.float32)
        alone.add_adapters({agent: lora}, seed=3)
        assert list(noted(team, agent)) == list(noted(alone, agent))
        assert noted(team, agent) == noted(alone, agent)
        ours, theirs = (adapters.tensors(base.model, agent) for base in (team, alone))
        assert list(ours) == list(theirs)
        assert all(torch.equal(ours[name], theirs[name]) and ours[name].requires_grad for name in ours)


def noted(base: Base, agent: str) -> dict[str, Any]:
    """What PEFT's layers hold about an adapter, and its configuration."""
    held: dict[str, Any] = {"": base.model.peft_config[agent].to_dict()}
    for name, layer in base.model.named_modules():
        if isinstance(layer, LoraLayer) and agent in layer.lora_A:
            places = (layer.r, layer.lora_alpha, layer.scaling, layer.use_rslora, layer.use_dora, layer.lora_bias)
            kinds = (layer.lora_dropout, layer.lora_variant, layer.lora_magnitude_vector, layer.lora_A, layer.lora_B)
            inside = [type(kind[agent]).__name__ if agent in kind else None for kind in kinds]
            held[name] = [place[agent] for place in places], inside
    return held
