"""What a run leaves on the disk: metrics that fit the checkpoints, and files that are whole or not there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from finished import LAST, SETTINGS, TEXT, WHOLE, resume, steps
from masc.backends.torch.training import checkpoints
from masc.backends.torch.training.train import train
from masc.dsl.diagnostics import MascError
from support import ROWS, make_program


@pytest.mark.parametrize("at", [2, 4], ids=["in the middle", "at the end"])
def test_a_killed_evaluation_is_made_up_for(at: int, tiny: Path, run: Path, done: Path) -> None:
    for step in range(at + 1, 5):
        shutil.rmtree(run / f"checkpoints/step-{step:06d}")
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[: WHOLE.index((at, True))]))
    resume(tiny, run)
    assert steps(run) == steps(done) == WHOLE
    found = [json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1]) for folder in (run, done)]
    assert found[0] == found[1]
    resume(tiny, run)
    assert steps(run) == WHOLE, "once"


@pytest.mark.parametrize(
    ("damage", "lost"),
    [
        (lambda data: data[:-20], 0),  # the evaluation's line is cut off, and made up for
        (lambda data: data.replace(b'"step": 2', b'"step": \xff', 1), 1),
        (lambda _: b"\xff\xfe\n\0\n", 4),
        (lambda data: data + b"[" * 100_000 + b"\n5\nnull\n", 0),
        (lambda data: data + b'{"step": "x"}\n{"step": true}\n{}\n', 0),
        (lambda _: b"", 4),
        (lambda data: data.replace(b'"loss": ', b'"loss": NaN, "was": '), 0),
    ],
    ids=["cut off", "no UTF-8 in a line", "none at all", "nested", "no steps", "empty", "NaN"],
)
def test_damaged_metrics(damage: Callable[[bytes], bytes], lost: int, tiny: Path, run: Path) -> None:
    path = run / "metrics.jsonl"
    path.write_bytes(damage(path.read_bytes()))
    history, told = resume(tiny, run, steps=5)
    assert [metrics["step"] for metrics in history] == [5]
    assert [d.code for d in told if d.code != "W0601"] == ["W0604"] * bool(lost)
    found = steps(run)
    assert found[-2:] == [(5, False), (5, True)]
    assert found == sorted(set(found))


def test_an_evaluation_of_ones_own_may_find_anything(tiny: Path, tmp_path: Path) -> None:
    def evaluate(_: Any) -> dict[str, Any]:
        return {"step": 99, "loss": torch.tensor(1.5), "eval_x": float("nan")}

    program = make_program(TEXT, tiny)
    train(program, ROWS, directory=tmp_path, evaluate=evaluate, **SETTINGS)
    train(program, ROWS, directory=tmp_path, evaluate=evaluate, resume=True, **SETTINGS)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 4]
    assert lines[-1]["loss"] == 1.5


def test_what_was_left_half_written_is_taken_away(tiny: Path, run: Path) -> None:
    (run / "checkpoints/.tmp-1").mkdir()
    (run / "checkpoints/.tmp-1/weights.safetensors").write_bytes(bytes(99))
    (run / "checkpoints/.tmp-old-1-step-000001").mkdir()
    (run / ".metrics.jsonl.0a1b2c3d.tmp").write_text("x")
    (run / ".mine.tmp").write_text("x")
    resume(tiny, run)
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == [f"step-00000{i}" for i in (2, 3, 4)]
    assert sorted(p.name for p in run.iterdir()) == [".lock", ".mine.tmp", "checkpoints", "metrics.jsonl"]


def test_weights_that_are_no_numbers_are_not_saved(tiny: Path, tmp_path: Path) -> None:
    """A step may end in them though its loss was one; the checkpoint before it must stay, also with `keep = 1`."""
    program = make_program(TEXT, tiny)

    def poison(metrics: dict[str, Any]) -> None:
        if metrics["step"] == 3:
            next(iter(program.trainable().values())).data.fill_(float("nan"))

    with pytest.raises(MascError, match=r"E0701.*after step 3"):
        train(program, ROWS, directory=tmp_path, listen=poison, **{**SETTINGS, "keep": 1})
    assert [path.name for path in checkpoints.every(tmp_path / "checkpoints")] == ["step-000002"]


@pytest.mark.parametrize("what", ["weights.safetensors", "state.json", "SHA256SUMS", "metrics.jsonl"])
def test_a_full_disk_costs_nothing(
    what: str, tiny: Path, tmp_path: Path, done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every write of one file fails from the third on. What is half-written goes, and the end is bit-equal."""
    import errno

    real = Path.open
    writes: list[Path] = []

    def opened(path: Path, mode: str = "r", *more: Any, **options: Any) -> Any:
        if path.name == what and mode in ("wb", "a"):
            writes.append(path)
            if len(writes) > 2:
                real(path, mode, *more, **options).write("x" if mode == "a" else b"x")
                raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, mode, *more, **options)

    settings = {**SETTINGS, "eval_every": 2}
    with monkeypatch.context() as full:
        full.setattr(Path, "open", opened)
        with pytest.raises(MascError, match=r"E0703.*the disk is full"):
            train(make_program(TEXT, tiny), ROWS, ROWS[:2], directory=tmp_path, **settings)
    assert all(path.name.startswith("step-") for path in (tmp_path / "checkpoints").iterdir())
    resume(tiny, tmp_path)
    assert steps(tmp_path) == WHOLE
    ends = [load_file(folder / LAST / "weights.safetensors") for folder in (done, tmp_path)]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_checkpoints_honour_the_umask(run: Path) -> None:
    for path in (run / LAST).iterdir():
        assert path.stat().st_mode & 0o044, path


def test_a_file_where_the_checkpoints_should_be(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoints").write_text("")
    with pytest.raises(MascError, match=r"E0612.*is not a folder"):
        train(make_program(TEXT, tiny), ROWS, directory=tmp_path, force=True, **SETTINGS)
