"""Adapters that begin with trained ones (`adapt lora(...) from`): used as they are, trained on, remembered."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from masc.api import load as load_artifact
from masc.backends.torch.build import build
from masc.backends.torch.engine.history import History
from masc.backends.torch.program import Program
from masc.backends.torch.training.train import train
from masc.compiler.artifact import read_artifact
from masc.compiler.pipeline import compile_file
from masc.dsl.diagnostics import MascError
from support import ROWS, make_model, make_program

TEAM = """
mas 1
model m = "./tiny"
agent a on m { user "{q} a" think 1 adapt ADAPT }
agent b on m { user "{q} b" adapt none answer (max_tokens = 4) }
graph g(q) -> answer { a -> b : kv }
"""
OWN = "lora(rank = 4, alpha = 6, targets = attention, rslora = true, dora = true)"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A model, an adapter that was trained on it (as PEFT would write it), and a team that begins with it."""
    make_model(tmp_path / "tiny")
    trained = make_program(TEAM.replace('"./tiny"', "MODEL").replace("ADAPT", OWN), tmp_path / "tiny")
    trained.save_weights(tmp_path / "saved")
    shutil.move(tmp_path / "saved" / "adapters" / "a", tmp_path / "adapter")
    write(tmp_path, 'lora(dropout = 0.1) from "./adapter"')
    return tmp_path


def write(place: Path, adapt: str) -> Path:
    path = place / "team.mas"
    path.write_text(TEAM.replace("ADAPT", adapt))
    return path


def program_of(place: Path, **options: Any) -> Program:
    compilation = compile_file(place / "team.mas")
    return build(compilation.require(), place, device="cpu", history=History(compilation), **options)


def codes(place: Path) -> list[str]:
    return [d.code for d in compile_file(place / "team.mas").diagnostics]


def change(place: Path, **entries: Any) -> None:
    path = place / "adapter" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def tensors(place: Path) -> dict[str, torch.Tensor]:
    return load_file(place / "adapter" / "adapter_model.safetensors")


def test_what_is_left_out_is_the_adapters_own_and_used_as_it_is(place: Path) -> None:
    program = program_of(place)
    lora = program.plan.agent("a").lora
    assert lora is not None
    assert (lora.rank, lora.alpha, lora.targets, lora.dropout) == (4, 6.0, ("attention",), 0.1)
    assert (lora.rslora, lora.dora, lora.start) == (True, True, str(place / "adapter"))
    program.save_weights(place / "again")
    found = load_file(place / "again" / "adapters" / "a" / "adapter_model.safetensors")
    assert found.keys() == tensors(place).keys()
    assert all(tensor.equal(found[name]) for name, tensor in tensors(place).items())


def test_narrow_numbers_are_widened(place: Path) -> None:
    narrow = {name: tensor.bfloat16() for name, tensor in tensors(place).items()}
    save_file(narrow, place / "adapter" / "adapter_model.safetensors")
    program = program_of(place)
    assert {p.dtype for p in program.trainable().values()} == {torch.float32}
    b = program.base("a").model.get_submodule("model.layers.0.self_attn.q_proj.lora_B.a").weight
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"
    assert b.equal(narrow[name].float())  # type: ignore[operator]


def test_an_artifact_remembers_and_needs_it_no_longer(place: Path) -> None:
    """Trained, an artifact says where it began and runs without the folder; untrained, it wants it."""
    program = program_of(place)
    train(program, ROWS, directory=place / "team.masc", steps=2, batch=2, save_every=1)
    program.save(place / "team.masc")
    training = read_artifact(place / "team.masc").manifest.training
    assert training is not None
    assert training.starts[0][0] == "a"
    assert training.starts[0][1].startswith(f"{place / 'adapter'} sha256:")
    shutil.move(place / "adapter", place / "elsewhere")
    loaded = load_artifact(place / "team.masc", device="cpu")
    theirs = program.trainable()
    assert all(p.equal(theirs[name]) for name, p in loaded.trainable().items())
    assert codes(place) == ["E0553"]
    with pytest.raises(MascError, match="there is no adapter"):
        build(program.plan, place, device="cpu")


def test_a_run_goes_on_to_the_same_bits(place: Path) -> None:
    settings: dict[str, Any] = {"batch": 2, "save_every": 1, "rate": 1e-3, "steps": 3}
    whole, cut = program_of(place), program_of(place)
    train(whole, ROWS, directory=place / "whole", **settings)
    before = {name: p.detach().clone() for name, p in program_of(place).trainable().items()}
    train(cut, ROWS, directory=place / "cut", **settings | {"steps": 1, "warmup": 0.0})
    shutil.rmtree(place / "cut" / "checkpoints")
    shutil.copytree(place / "whole" / "checkpoints" / "step-000002", place / "cut" / "checkpoints" / "step-000002")
    again = program_of(place, begin=False)
    train(again, ROWS, directory=place / "cut", resume=True, **settings)
    theirs = again.trainable()
    assert all(p.equal(theirs[name]) for name, p in whole.trainable().items())
    assert not all(p.equal(before[name]) for name, p in whole.trainable().items())


def test_init_from_wins(place: Path) -> None:
    program = program_of(place)
    with torch.no_grad():
        for parameter in program.trainable().values():
            parameter.add_(1)
    program.save(place / "other.masc")
    fresh = program_of(place)
    taken = fresh.init_from(place / "other.masc")
    assert taken.taken == ("a",)
    theirs = program.trainable()
    assert all(p.equal(theirs[name]) for name, p in fresh.trainable().items())
    assert fresh.history.starts == ()


@pytest.mark.parametrize(
    ("written", "wrong"),
    [
        ("rank = 8", "rank"),
        ("alpha = 5", "alpha"),
        ("targets = all", "targets"),
        ("rslora = false", "rslora"),
        ("dora = false", "dora"),
    ],
)
def test_what_is_written_is_what_is_there(place: Path, written: str, wrong: str) -> None:
    path = write(place, f'lora({written}) from "adapter"')
    (found,) = compile_file(path).diagnostics
    assert (found.code, found.span.text if found.span else None) == ("E0555", written)
    assert found.message.startswith(f"`{wrong}` is ")
    assert found.hint is not None
    write(place, 'lora(rank = 4, alpha = 6.0, targets = [o_proj, k_proj, q_proj, v_proj], dora = true) from "adapter"')
    assert codes(place) == []


@pytest.mark.parametrize(
    "entries",
    [
        {"peft_type": "IA3"},
        {"bias": "all"},
        {"rank_pattern": {"q_proj": 8}},
        {"modules_to_save": ["lm_head"]},
        {"target_modules": ["lm_head"]},
        {"target_modules": ".*_proj"},
        {"init_lora_weights": "pissa"},
        {"r": 0},
        {"lora_alpha": "much"},
    ],
)
def test_what_masc_has_not_is_refused(place: Path, entries: dict[str, Any]) -> None:
    change(place, **entries)
    (found,) = compile_file(place / "team.mas").diagnostics
    assert found.code == "E0554"
    assert found.span is not None
    assert found.span.text == '"./adapter"'


def test_what_cannot_be_read_is_refused(place: Path) -> None:
    (place / "adapter" / "adapter_config.json").write_text("{")
    assert codes(place) == ["E0554"]


@pytest.mark.parametrize("written", ["./trained/adapter", "trained/adapter", "./trained/"])
def test_a_path_of_a_folder_that_is_gone_is_the_same(written: str, place: Path) -> None:
    """Also one that could be an id on the hub, now that no folder is there."""
    (place / "trained").mkdir()
    shutil.move(place / "adapter", place / "trained" / "adapter")
    if written == "./trained/":
        shutil.copytree(place / "trained" / "adapter", place / "trained", dirs_exist_ok=True)
    write(place, f'lora from "{written}"')
    program = program_of(place)
    train(program, ROWS, steps=1, batch=2)
    program.save(place / "team.masc")
    shutil.rmtree(place / "trained")
    loaded = load_artifact(place / "team.masc", device="cpu")
    theirs = program.trainable()
    assert all(p.equal(theirs[name]) for name, p in loaded.trainable().items())


@pytest.mark.parametrize("how", ["missing", "surplus", "shape", "layers", "damaged", "gone"])
def test_tensors_that_are_not_the_models(place: Path, how: str) -> None:
    """Told when the file is checked, and where it is not, before anything is changed."""
    plan = compile_file(place / "team.mas").require()
    held, path = tensors(place), place / "adapter" / "adapter_model.safetensors"
    name = min(held)
    if how == "missing":
        del held[name]
    elif how == "surplus":
        held["base_model.model.model.layers.3.self_attn.q_proj.lora_A.weight"] = held[name].clone()
    elif how == "shape":
        held[name] = held[name][:1].clone()
    save_file(held, path)
    if how == "layers":
        change(place, layers_to_transform=[0, 1])
    elif how == "damaged":
        path.write_bytes(path.read_bytes()[:100])
    elif how == "gone":
        path.unlink()
    assert codes(place) == ["E0556"]
    if how != "layers":
        with pytest.raises(MascError) as caught:
            build(plan, place, device="cpu")
        assert caught.value.diagnostics[0].code == "E0557"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite(place: Path, value: float) -> None:
    held = tensors(place)
    held[min(held)].view(-1)[0] = value
    save_file(held, place / "adapter" / "adapter_model.safetensors")
    with pytest.raises(MascError, match="not finite") as caught:
        program_of(place)
    assert caught.value.diagnostics[0].code == "E0557"


def test_another_base_model(place: Path) -> None:
    make_model(place / "near", seed=1)
    change(place, base_model_name_or_path=str(place / "near"))
    assert codes(place) == ["E0556"]
    shutil.copytree(place / "tiny", place / "copy")
    change(place, base_model_name_or_path=str(place / "copy"))
    assert codes(place) == []
    change(place, base_model_name_or_path="someone/else")
    assert codes(place) == ["W0550"]
    change(place, base_model_name_or_path="someone/Tiny")
    assert codes(place) == []


def test_a_shared_adapter_begins_once(place: Path) -> None:
    text = TEAM.replace("adapt none", "adapt as a").replace("ADAPT", 'lora from "adapter"')
    (place / "team.mas").write_text(text)
    program = program_of(place)
    assert [agent for agent, _ in program.history.starts] == ["a"]
    assert {program.owner(name) for name in program.trainable()} == {"a"}


def test_on_the_hub(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not on disk, all must be written; in the hub's cache, it is as a folder."""
    monkeypatch.setenv("HF_HUB_CACHE", str(place / "hub"))
    write(place, 'lora from "org/trained"')
    assert codes(place) == ["E0553"]
    write(place, 'lora(rank = 4, alpha = 6, targets = attention, rslora = true, dora = true) from "org/trained"')
    assert codes(place) == ["I0501"]
    repository = place / "hub" / "models--org--trained"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    shutil.copytree(place / "adapter", repository / "snapshots" / "abc")
    write(place, 'lora from "org/trained"')
    assert codes(place) == []
    assert program_of(place).history.starts[0][1].startswith("org/trained sha256:")
