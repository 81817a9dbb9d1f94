"""Artifacts as they are used: shared, trained twice at once, trained on from, with weights that are not whole."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, load_file, save

import masc as library
from courier import GRAPH, ROWS, Command
from masc.compiler.artifact import read_artifact, read_weights
from masc.dsl.diagnostics import MascError
from warm import heavy

STEPS = ("--set", "steps=2", "--device", "cpu")
HIDDEN = GRAPH.replace("kv(carry = latents, open = 4)", "hidden").replace(
    "think latents", "think latents (align = linear)"
)


def manifest(root: Path) -> dict[str, object]:
    body = json.loads((root / "manifest.json").read_text())
    assert isinstance(body, dict)
    return body


def weights(root: Path) -> dict[str, bytes]:
    return dict(read_weights(read_artifact(root)))


# -- what others read -------------------------------------------------------------------------------------------------


def test_auto_peft_finds_the_base_model(masc: Command, folder: Path) -> None:
    from peft import AutoPeftModelForCausalLM, PeftModel

    assert masc("train", *STEPS).code == 0
    place = folder / "courier.masc" / "adapters" / "sender"
    config = json.loads((place / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(folder / "tiny")
    assert config["target_modules"] == sorted(config["target_modules"])
    model = AutoPeftModelForCausalLM.from_pretrained(str(place))
    assert isinstance(model, PeftModel)
    own = load_file(place / "adapter_model.safetensors")
    state = model.state_dict()
    assert all(state[name.replace(".weight", ".default.weight")].equal(tensor) for name, tensor in own.items())


def test_whoever_may_read_any_file_may_read_weights(masc: Command, folder: Path) -> None:
    before = os.umask(0o027)
    try:
        assert masc("train", *STEPS).code == 0
    finally:
        os.umask(before)
    found = [path for path in (folder / "courier.masc").rglob("*") if path.is_file() and path.name != ".lock"]
    assert {path.name for path in found} >= {"adapter_model.safetensors", "weights.safetensors", "plan.json"}
    assert {path.stat().st_mode & 0o777 for path in found} == {0o640}


def test_the_same_weights_are_the_same_bytes(folder: Path) -> None:
    """In another process, too, in which sets have another order."""
    library.compile("courier.mas", device="cpu").save("out.masc")
    first = weights(folder / "out.masc"), manifest(folder / "out.masc")["files"]
    script = folder / "again.py"
    script.write_text("import masc; masc.compile('courier.mas', device='cpu').save('out.masc', force=True)")
    assert heavy().call(script=script).returncode == 0
    assert (weights(folder / "out.masc"), manifest(folder / "out.masc")["files"]) == first


def test_how_weights_were_trained_is_written_down(masc: Command, folder: Path) -> None:
    assert masc("train", *STEPS, "--set", "latents=3").code == 0
    found = manifest(folder / "courier.masc")["training"]
    assert isinstance(found, dict)
    assert (found["rows"], found["data"], found["processes"]) == (6, str(folder / "train.jsonl"), 1)
    assert found["settings"]["steps"] == "2"
    assert found["set"] == {"steps": "2", "latents": "3"}
    assert "torch" in found["versions"]
    first = found["data_hash"]
    program = library.load(folder / "courier.masc", device="cpu")
    program.save(folder / "again.masc")
    assert manifest(folder / "again.masc")["training"] == found
    library.train(program, ROWS[:3], steps=1)
    program.save(folder / "again.masc")
    again = manifest(folder / "again.masc")["training"]
    assert isinstance(again, dict)
    assert (again["rows"], again["data_hash"] == first) == (3, False)


def test_what_adapters_began_with_is_remembered(masc: Command, folder: Path) -> None:
    """Also of a run that is gone on with when the folder is no longer there."""
    library.compile("courier.mas", device="cpu").save_weights(folder / "saved")
    text = (folder / "courier.mas").read_text()
    begun = re.sub(r"adapt\s+lora\([^)]*\)", 'adapt lora from "saved/adapters/sender"', text)
    assert begun != text
    (folder / "courier.mas").write_text(begun)
    assert masc("train", *STEPS).code == 0
    told = json.loads((folder / "courier.masc" / "manifest.json").read_text())["training"]["starts"]
    assert told
    assert all("sha256:" in what for what in told.values())
    shutil.rmtree(folder / "saved")
    assert masc("eval", "courier.masc", "--device", "cpu").code == 0
    assert masc("train", "courier.masc", "--resume", "--set", "steps=3", "--device", "cpu").code == 0
    assert json.loads((folder / "courier.masc" / "manifest.json").read_text())["training"]["starts"] == told


def test_what_is_remembered_is_told(masc: Command, folder: Path) -> None:
    assert masc("compile", "--set", "latents=3").code == 0
    line = "using `--set latents=3`, remembered from `masc compile`; `masc compile` without it forgets it"
    assert line in masc("train", *STEPS).err
    assert line in masc("eval", "--device", "cpu").err
    assert line not in masc("eval", "courier.masc", "--device", "cpu").err
    assert line not in masc("train", "--force", "--set", "latents=4", *STEPS).err


# -- weights that are not whole ---------------------------------------------------------------------------------------


def broken(data: bytes, how: str) -> bytes:
    tensors = load(data)
    name = min(tensors)
    tensor = tensors[name]
    if how == "shape":  # it would broadcast
        tensors[name] = tensor.flatten()[:1].clone()
    elif how == "dtype":
        tensors[name] = tensor.to(torch.bfloat16)
    elif how == "integers":
        tensors[name] = tensor.to(torch.int32)
    elif how == "nan":
        tensors[name] = torch.full_like(tensor, float("nan"))
    elif how == "infinite":
        tensors[name] = tensor.clone()
        tensors[name].view(-1)[0] = float("inf")
    elif how == "unknown":
        tensors["more"] = torch.zeros(1)
    elif how == "missing":
        del tensors[name]
    else:
        return data[: len(data) // 2]
    return save(tensors)


@pytest.mark.parametrize("file", ["channels.safetensors", "adapters/sender/adapter_model.safetensors"])
def test_weights_that_do_not_fit_change_nothing(folder: Path, file: str) -> None:
    (folder / "courier.mas").write_text(HIDDEN)
    program = library.compile("courier.mas", device="cpu")
    program.save_weights(folder / "saved")
    files = {str(p.relative_to(folder / "saved")): p.read_bytes() for p in (folder / "saved").rglob("*") if p.is_file()}
    program.load_weights(files)
    before = {name: parameter.clone() for name, parameter in program.trainable().items()}
    for how in ("shape", "dtype", "integers", "nan", "infinite", "unknown", "missing", "half"):
        with pytest.raises(MascError) as caught:
            program.load_weights(files | {file: broken(files[file], how)})
        assert caught.value.diagnostics[0].code == "E0617", how
    assert all(before[name].equal(parameter) for name, parameter in program.trainable().items())


@pytest.mark.parametrize(
    "change",
    [{"r": 8}, {"lora_alpha": 1}, {"target_modules": ["q_proj"]}, {"use_dora": True}, {"alpha_pattern": {"q": 2}}],
)
def test_an_adapter_of_another_configuration(folder: Path, change: dict[str, object]) -> None:
    program = library.compile("courier.mas", device="cpu")
    program.save_weights(folder / "saved")
    path = folder / "saved" / "adapters" / "sender" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(MascError, match=next(iter(change))):
        program.load_weights(folder / "saved")


def test_what_is_not_finite_is_not_saved(folder: Path) -> None:
    program = library.compile("courier.mas", device="cpu")
    program.save("out.masc")
    before = weights(folder / "out.masc")
    with torch.no_grad():
        next(iter(program.trainable().values())).fill_(float("nan"))
    with pytest.raises(MascError, match="not finite"):
        program.save("out.masc")
    assert weights(folder / "out.masc") == before


# -- two at once ------------------------------------------------------------------------------------------------------


def test_two_trainings_at_once(masc: Command, folder: Path) -> None:
    root = folder / "courier.masc"
    with heavy().running("train", "--set", "steps=100000", "--device", "cpu") as process:
        deadline = time.monotonic() + 240
        while not (root / "checkpoints" / "step-000002").exists():
            assert process.runs()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        for arguments in (("train", "--force", *STEPS), ("train", "--resume"), ("compile",)):
            refused = masc(*arguments)
            assert (refused.code, "E0641" in refused.err) == (1, True), refused.err
            assert f"process {process.pid}" in refused.err
            assert "train --set steps=100000" in refused.err
        assert process.runs()
        assert masc("eval", "--device", "cpu").code == 0, "reading needs no lock"
    assert masc("train", "--force", *STEPS).code == 0, "what a dead process held is nobody's"


# -- training that goes on --------------------------------------------------------------------------------------------


def without_checkpoints(root: Path) -> None:
    import shutil

    shutil.rmtree(root / "checkpoints")


def test_resuming_without_checkpoints_loses_nothing(masc: Command, folder: Path) -> None:
    root = folder / "courier.masc"
    assert masc("train", *STEPS).code == 0
    without_checkpoints(root)
    before = weights(root)
    refused = masc("train", "--resume")
    assert (refused.code, "E0643" in refused.err) == (1, True), refused.err
    assert "--init-from" in refused.err
    plain = masc("train")
    assert "E0610" in plain.err
    assert "--resume" not in plain.err
    assert weights(root) == before
    on = masc("train", "--init-from", "courier.masc", "--force", *STEPS)
    assert on.code == 0, on.err
    assert "beginning with courier.masc: sender, receiver" in on.err
    assert weights(root) != before
    assert manifest(root)["training"]["init_from"] == str(root)  # type: ignore[index]


def test_beginning_with_another_artifact(masc: Command, folder: Path) -> None:
    (folder / "courier.mas").write_text(HIDDEN)
    assert masc("train", *STEPS).code == 0
    first = library.load("courier.masc", device="cpu")
    text = HIDDEN.replace("think latents (align = linear)\n  adapt lora(rank = 4)", "adapt lora(rank = 2)")
    (folder / "second.mas").write_text(text.replace("receiver", "reader"))
    second = library.compile("second.mas", device="cpu")
    with pytest.raises(MascError) as caught:
        second.init_from("courier.masc")  # another rank, another name
    assert caught.value.diagnostics[0].code == "E0644"
    (folder / "third.mas").write_text(HIDDEN.replace("{code}", "The code is {code}").replace("sender", "scout"))
    third = library.compile("third.mas", device="cpu")
    taken = third.init_from("courier.masc")
    assert taken.taken == ("receiver",)
    assert set(taken.left) == {"scout", "hidden(scout, receiver)"}
    assert set(taken.unused) == {"sender", "hidden(sender, receiver)"}
    theirs, ours = first.trainable(), third.trainable()
    assert all(theirs[name].equal(ours[name]) for name in ours if name.endswith(".receiver.weight"))
    library.train(third, ROWS, steps=1, init_from="courier.masc")
    assert third.history.trained_by is not None
    assert third.history.trained_by.init_from == str(folder / "courier.masc")


def test_another_base_model_is_refused(masc: Command, folder: Path) -> None:
    assert masc("train", *STEPS).code == 0
    config = json.loads((folder / "tiny" / "config.json").read_text())
    (folder / "tiny" / "config.json").write_text(json.dumps(config | {"rope_theta": 12345.0, "rms_norm_eps": 1e-4}))
    (folder / "other.mas").write_text(GRAPH)
    own = "courier.mas"
    for arguments in (("train", "other.mas", "--init-from", "courier.masc"), ("train", own, "--resume"), ("eval", own)):
        refused = masc(*arguments, "--device", "cpu")
        assert (refused.code, "E0615" in refused.err) == (1, True), refused.err
    assert not list((folder / "other.masc").glob("adapters/*"))


def test_beginning_with_what_is_not_trained(masc: Command, folder: Path) -> None:
    assert masc("compile", "-o", "fresh.masc").code == 0
    assert "E0644" in masc("train", "--init-from", "fresh.masc").err
    assert "E0510" in masc("train", "--init-from", "tiny").err
    assert "did you mean `fresh.masc`?" in masc("train", "--init-from", "frsh.masc").err
    assert masc("train", "--init-from", "fresh.masc", "--resume").code == 2


SAVER = """
import sys
import masc, torch
program = masc.load(sys.argv[1], device="cpu", dtype="float32")
for turn in range(10_000):
    with torch.no_grad():
        for parameter in program.trainable().values():
            parameter.fill_(turn % 7)
    program.save(sys.argv[1])
"""


def test_loads_beside_a_saver(masc: Command, folder: Path) -> None:
    """Whoever loads gets what one save wrote, never parts of two."""
    assert masc("train", *STEPS).code == 0
    root = folder / "courier.masc"
    script = folder / "saver.py"
    script.write_text(SAVER)
    with heavy().running(root, script=script) as saver:
        while len(stored(root)) != 1:  # what training wrote is still there
            assert saver.runs()
            time.sleep(0.05)
        seen = set()
        for turn in range(80):
            (value,) = stored(root) if turn % 20 else values(root)
            seen.add(value)
        assert saver.runs(), "it went on saving"
    assert len(seen) > 1


def stored(root: Path) -> set[float]:
    """The numbers that the weights of an artifact hold, read as a program reads them."""
    files = [data for name, data in weights(root).items() if name.endswith(".safetensors")]
    return {float(number) for data in files for p in load(data).values() for number in (p.min(), p.max())}


def values(root: Path) -> set[float]:
    """The numbers that the weights of an artifact hold, loaded as a program."""
    program = library.load(root, device="cpu", dtype="float32")
    return {float(number) for p in program.trainable().values() for number in (p.min(), p.max())}


def test_two_runs_from_python_in_one_directory(tiny: Path, tmp_path: Path) -> None:
    from support import chain, make_program

    first = make_program(chain(("a", 1, "norm"), ("b", 0, "norm")), tiny)
    second = make_program(chain(("a", 1, "norm"), ("b", 0, "norm")), tiny)
    rows = [{"q": "a", "answer": "b"}]
    said = []

    def train_too(_: object) -> None:
        with pytest.raises(MascError, match="E0641"):
            said.extend(run_elsewhere(second, rows, tmp_path / "run"))

    library.train(first, rows, steps=1, directory=tmp_path / "run", listen=train_too)
    assert said == []


def run_elsewhere(program: Any, rows: list[dict[str, str]], directory: Path) -> list[object]:
    """Train in another thread, as another owner of the directory would."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        return list(pool.submit(library.train, program, rows, steps=1, directory=directory, force=True).result())
