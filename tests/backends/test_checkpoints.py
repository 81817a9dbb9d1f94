"""Checkpoints that are damaged or forged: what is whole is taken, what is wrong is told, nothing is overwritten."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from finished import BEFORE, LAST, edited, resume, sign, snapshot
from masc.backends.torch.training import checkpoints
from masc.dsl.diagnostics import MascError


def flip(name: str, at: int = -9) -> Callable[[Path], None]:
    def damage(checkpoint: Path) -> None:
        data = bytearray((checkpoint / name).read_bytes())
        data[at] ^= 1
        (checkpoint / name).write_bytes(bytes(data))

    return damage


def cut(name: str, zeros: bool) -> Callable[[Path], None]:
    def damage(checkpoint: Path) -> None:
        data = (checkpoint / name).read_bytes()
        (checkpoint / name).write_bytes(data[:-50] + (bytes(50) if zeros else b""))

    return damage


def gone(name: str) -> Callable[[Path], None]:
    return lambda checkpoint: (checkpoint / name).unlink()


def becomes_a_file(checkpoint: Path) -> None:
    shutil.rmtree(checkpoint)
    checkpoint.write_text("")


DAMAGE = {
    "a bit of the weights": flip("weights.safetensors"),
    "a bit of the moments": flip("optimizer.safetensors"),
    "a bit of the state": flip("state.json"),
    "a bit of the step": flip("state.json", 22),
    "a bit of the sums": flip("SHA256SUMS", 5),
    "zeros": cut("weights.safetensors", True),
    "cut off": cut("optimizer.safetensors", False),
    "no weights": gone("weights.safetensors"),
    "no moments": gone("optimizer.safetensors"),
    "no state": gone("state.json"),
    "no sums": gone("SHA256SUMS"),
    "empty sums": lambda checkpoint: (checkpoint / "SHA256SUMS").write_text(""),
    "sums of nobody": lambda checkpoint: (checkpoint / "SHA256SUMS").write_bytes(b"\xff\n\n"),
    "a file": becomes_a_file,
    "empty": lambda checkpoint: [file.unlink() for file in checkpoint.iterdir()],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_left_out(damage: str, tiny: Path, done: Path, run: Path) -> None:
    """The one before it is taken, and the end is the same to the bit."""
    DAMAGE[damage](run / LAST)  # type: ignore[no-untyped-call]
    history, told = resume(tiny, run)
    assert [metrics["step"] for metrics in history] == [4]
    assert [d.code for d in told] == ["W0602"]
    assert str(run / LAST) in told[0].message
    assert str(run / BEFORE) in told[0].message
    ends = [load_file(folder / LAST / "weights.safetensors") for folder in (done, run)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    lines = [[json.loads(x) for x in (folder / "metrics.jsonl").read_text().splitlines()] for folder in (done, run)]
    assert [(m["step"], m.get("loss"), m.get("eval_loss")) for m in lines[0]] == [
        (m["step"], m.get("loss"), m.get("eval_loss")) for m in lines[1]
    ]


def test_where_all_are_damaged_nothing_is_overwritten(tiny: Path, run: Path) -> None:
    for path in checkpoints.every(run / "checkpoints"):
        flip("weights.safetensors")(path)
    before = snapshot(run)
    with pytest.raises(MascError, match=r"E0608.*step-000004.*and so are the 2 before it"):
        resume(tiny, run)
    assert snapshot(run) == before


def tensors(file: str, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Callable[[Path], None]:
    def edit(checkpoint: Path) -> None:
        save_file(change(load_file(checkpoint / file)), checkpoint / file)

    return edit


def first(
    change: Callable[[torch.Tensor], torch.Tensor],
) -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    def edit(found: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        name = min(found)
        return {**found, name: change(found[name]).contiguous()}

    return edit


FORGED: dict[str, tuple[Callable[[Path], None], str]] = {
    "an earlier version": (edited(format=None), "earlier version of masc"),
    "a later version": (edited(format=9), "has format 9, and this version reads format 3"),
    "a batch out of range": (edited(settings__batch=0), "`batch` is 0"),
    "steps of a wrong type": (edited(settings__steps="4"), "`steps` takes a whole number"),
    "a setting that nobody knows": (edited(settings__colour=1), "colour"),
    "no settings": (edited(settings=None), "`settings` is not an object"),
    "settings as a list": (edited(settings=[]), "`settings` is not an object"),
    "no origin": (edited(belongs=None), "`belongs` does not hold"),
    "a number for a plan": (edited(belongs__plan=5), "`plan` is 5"),
    "no base models": (edited(belongs__models={}, belongs__bases={}), "another base model"),
    "versions as a text": (edited(around__versions="x"), "`versions` is 'x'"),
    "a scalar": (tensors("weights.safetensors", first(lambda x: x.flatten()[0])), r"float32 \[\]"),
    "another shape": (tensors("weights.safetensors", first(lambda x: x[:1])), r"float32 \[1, "),
    "another dtype": (tensors("weights.safetensors", first(lambda x: x.double())), "float64"),
    "no moments at all": (tensors("optimizer.safetensors", lambda _: {}), "no moments of the optimiser"),
    "a moment less": (
        tensors("optimizer.safetensors", lambda found: {k: found[k] for k in sorted(found)[1:]}),
        "but the moments",
    ),
    "a moment of nobody": (
        tensors("optimizer.safetensors", lambda found: {**found, "x:step": torch.ones(())}),
        "x:step",
    ),
    "moments of a thousand steps": (
        tensors("optimizer.safetensors", lambda found: {k: v + 1000 * k.endswith(":step") for k, v in found.items()}),
        "were not made in 4 steps",
    ),
    "a tensor less": (
        tensors("weights.safetensors", lambda found: {k: found[k] for k in sorted(found)[1:]}),
        "which is trained now",
    ),
    "a tensor more": (tensors("weights.safetensors", lambda found: {**found, "x": torch.ones(1)}), "not trained now"),
}


@pytest.mark.parametrize("forgery", FORGED)
def test_what_is_signed_and_wrong_is_refused(forgery: str, tiny: Path, run: Path) -> None:
    forge, told = FORGED[forgery]
    forge(run / LAST)
    sign(run / LAST)
    before = snapshot(run)
    with pytest.raises(MascError, match=told) as error:
        resume(tiny, run, steps=6)
    assert error.value.diagnostics[0].code in ("E0608", "E0615")
    assert snapshot(run) == before


FOREIGN: dict[str, Callable[[Path], None]] = {
    "a step of another name": edited(step=2),
    "a step without end": edited(step=10**9),
    "a step that is a text": edited(step="4"),
    "not a number": tensors("weights.safetensors", first(lambda x: x * float("nan"))),
    "moments without end": tensors("optimizer.safetensors", first(lambda x: x + float("inf"))),
    "JSON without end": lambda checkpoint: (checkpoint / "state.json").write_text("[" * 200_000),  # type: ignore[dict-item,return-value]
    "a list": lambda checkpoint: (checkpoint / "state.json").write_text("[]"),  # type: ignore[dict-item,return-value]
    "not UTF-8": lambda checkpoint: (checkpoint / "state.json").write_bytes(b"\xff"),  # type: ignore[dict-item,return-value]
    "no safetensors": lambda checkpoint: (checkpoint / "weights.safetensors").write_bytes(b"\0" * 90),  # type: ignore[dict-item,return-value]
}


@pytest.mark.parametrize("forgery", FOREIGN)
def test_what_is_signed_and_senseless_is_left_out(forgery: str, tiny: Path, run: Path) -> None:
    FOREIGN[forgery](run / LAST)
    sign(run / LAST)
    history, told = resume(tiny, run)
    assert [metrics["step"] for metrics in history] == [4]
    assert [d.code for d in told] == ["W0602"]


@pytest.mark.parametrize("name", ["step-²", "step-", "step-12", "step-0000012", "step-x", "step-００００１２", "notes"])
def test_folders_that_are_no_checkpoints(name: str, tiny: Path, run: Path) -> None:
    (run / "checkpoints" / name).mkdir()
    history, _ = resume(tiny, run, steps=5)
    assert [metrics["step"] for metrics in history] == [5]


def test_a_checkpoint_under_another_name_is_not_taken(tiny: Path, run: Path) -> None:
    shutil.copytree(run / LAST, run / "checkpoints/step-000012")
    history, told = resume(tiny, run, steps=5)
    assert [metrics["step"] for metrics in history] == [5]
    assert "holds step 4" in told[0].message
    assert not (run / "checkpoints/step-000012").exists()
