"""Profiles of training: a trace, a table by turn and kind of work, and nothing else that is different."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from graphs import alike
from masc.backends.torch.engine.labels import label_of, parts_of, unlabelled
from masc.backends.torch.training import train as trainer
from masc.backends.torch.training.profile import Spent, spent, table
from masc.dsl.diagnostics import MascError
from support import ROWS, chain, make_program

CHAIN = chain(("a", 2, "norm"), ("b", 1, "norm"), ("c", 0, "norm"))


def run(tiny: Path, folder: Path, profile: int | None, **more: Any) -> tuple[list[float], dict[str, Any]]:
    program = make_program(CHAIN, tiny)
    history = trainer.train(program, ROWS, **{"steps": 5, "batch": 2, "directory": folder, "profile": profile, **more})
    return [metrics["loss"] for metrics in history], {n: p.detach().clone() for n, p in program.trainable().items()}


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


def events(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(gzip.decompress((folder / "profile.json.gz").read_bytes()))["traceEvents"]
    return found


def test_a_profile_changes_nothing_and_names_every_kind(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    losses, weights = run(tiny, tmp_path / "without", None)
    assert "ms a step" not in capsys.readouterr().out
    profiled, same = run(tiny, tmp_path / "with", 2)
    assert losses == profiled
    assert all(weights[name].equal(tensor) for name, tensor in same.items())
    assert files(tmp_path / "with") == ["checkpoints", "metrics.jsonl", "profile.json.gz"]
    told = capsys.readouterr().out.splitlines()
    assert told[0].split() == ["turn", "kind", "ms", "a", "step", "share", "operations", "a", "step"]
    assert told[-1].endswith(str(tmp_path / "with" / "profile.json.gz"))

    trace = events(tmp_path / "with")
    assert len([e for e in trace if e.get("name") == "masc: optimiser" and e.get("ph") == "X"]) == 2
    found = spent(trace)
    thinking = {(turn, kind) for turn in ("a#1", "b#1") for kind in ("prepare", "prefill", "latents", "backward")}
    answering = {("c#1", kind) for kind in ("prepare", "prefill and label", "loss", "backward")}
    assert set(found) == thinking | answering | {("", kind) for kind in ("backward", "norms", "optimiser", "rest")}
    assert all(each.host > 0 and each.operations > 0 and each.device == 0 for each in found.values())
    # Nothing is counted twice: parts are as long as the steps that they are parts of.
    steps = sum(e["dur"] for e in trace if e.get("name") == "masc: rest" and e.get("ph") == "X")
    assert sum(each.host for each in found.values()) == pytest.approx(steps, rel=1e-6)
    # Two latent steps are as many operations as twice one.
    assert found["a#1", "latents"].operations == pytest.approx(2 * found["b#1", "latents"].operations, rel=0.05)


def test_siblings_in_one_batch_are_told_together(tiny: Path, tmp_path: Path) -> None:
    program = make_program(alike("[first, second, third] -> last : kv"), tiny)
    trainer.train(program, ROWS, steps=3, batch=2, directory=tmp_path, profile=1)
    turns = {turn for turn, kind in spent(events(tmp_path)) if kind == "latents"}
    assert turns == {"first#1+second#1+third#1", "last#1"}


def test_a_label_behind_latent_steps_and_what_is_computed_again(tiny: Path, tmp_path: Path) -> None:
    program = make_program(
        chain(("a", 2, "norm"), ("b", 1, "norm")).replace("  answer\n", "  think 1\n  answer\n"), tiny
    )
    trainer.train(program, ROWS, steps=3, batch=2, directory=tmp_path, profile=1, checkpoint="agent")
    kinds = {turn: {kind for at, kind in spent(events(tmp_path)) if at == turn} for turn in ("a#1", "b#1")}
    assert kinds["a#1"] == {"prepare", "prefill", "latents", "recompute", "backward"}
    assert kinds["b#1"] == {"prepare", "prefill", "latents", "label", "loss", "recompute", "backward"}


@pytest.mark.parametrize("wrong", [0, -1, True, 1.5])
def test_what_is_no_number_of_steps(wrong: Any, tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        run(tiny, tmp_path, wrong)
    assert not list(tmp_path.iterdir())


def test_too_few_steps(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(MascError) as caught:
        run(tiny, tmp_path, 4)
    assert caught.value.diagnostics[0].code == "E0645"
    assert "takes 6 steps, 2 of them to warm up, and 5 are left" in caught.value.diagnostics[0].message
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="directory"):
        trainer.train(make_program(CHAIN, tiny), ROWS, steps=5, profile=1)


def test_a_run_that_goes_on_is_profiled_from_there(tiny: Path, tmp_path: Path) -> None:
    """And ends with the same bits. What it had profiled before stays until there is another."""
    _, whole = run(tiny, tmp_path / "whole", None, steps=7, save_every=3)
    _stopped(tiny, tmp_path / "parts")
    before = (tmp_path / "parts" / "profile.json.gz").read_bytes()
    with pytest.raises(MascError, match="E0645"):
        run(tiny, tmp_path / "parts", 3, steps=7, save_every=3, resume=True)
    assert (tmp_path / "parts" / "profile.json.gz").read_bytes() == before
    _, same = run(tiny, tmp_path / "parts", 2, steps=7, save_every=3, resume=True)
    assert all(whole[name].equal(tensor) for name, tensor in same.items())
    assert (tmp_path / "parts" / "profile.json.gz").read_bytes() != before
    run(tiny, tmp_path / "parts", None, steps=2, force=True)
    assert not (tmp_path / "parts" / "profile.json.gz").exists()


def _stopped(tiny: Path, folder: Path) -> None:
    """A run of seven steps that is profiled and stops in the fourth."""

    def listen(metrics: dict[str, Any]) -> None:
        if metrics["step"] == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tiny, folder, 1, steps=7, save_every=3, listen=listen)


def test_a_run_that_is_stopped_while_it_is_profiled(tiny: Path, tmp_path: Path) -> None:
    """It leaves no trace, and the profiler to the next."""

    def listen(metrics: dict[str, Any]) -> None:
        if metrics["step"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tiny, tmp_path / "stopped", 3, listen=listen)
    assert files(tmp_path / "stopped") == ["metrics.jsonl"]
    run(tiny, tmp_path / "next", 1)
    assert events(tmp_path / "next")


def test_names_cost_nothing_where_nobody_profiles() -> None:
    assert label_of(False, "a#1") is unlabelled
    assert parts_of("masc: prefill and label a#1") == ("a#1", "prefill and label")
    assert parts_of("masc: norms") == ("", "norms")


def test_a_long_table_tells_the_dearest() -> None:
    found = {(f"a{i}#1", "prefill"): Spent(host=1000.0 * i, operations=1) for i in range(1, 101)}
    lines = table(found, 1).splitlines()
    assert len(lines) == 1 + 60 + 2
    assert [lines[1].split()[0], lines[-3].split()[0]] == ["a41#1", "a100#1"]
    assert lines[-2].split() == ["40", "more", "820.0", "16.2%", "40"]
    assert lines[-1].split() == ["all", "5,050.0", "100.0%", "100"]


def test_time_of_a_gpu_is_that_of_the_operation_that_asked_for_it() -> None:
    """On a GPU gradients come from another thread, for which the first one waits."""

    def one(name: str, at: float, dur: float, cat: str = "cpu_op", tid: int = 1, **args: int) -> dict[str, Any]:
        return {"ph": "X", "name": name, "cat": cat, "ts": at, "dur": dur, "tid": tid, "args": args}

    found = spent(
        [
            one("masc: rest", 0, 100, "user_annotation"),
            one("masc: prefill a#1", 0, 30, "user_annotation"),
            one("aten::mm", 5, 10, **{"Sequence number": 7, "External id": 1}),
            one("masc: backward", 40, 50, "user_annotation"),
            one("autograd::engine::evaluate_function: MmBackward0", 45, 40, tid=2, **{"Sequence number": 7}),
            one("aten::mm", 50, 20, tid=2, **{"External id": 2}),
            one("gemm", 20, 200, "kernel", 9, **{"External id": 1}),
            one("gemm", 300, 400, "kernel", 9, **{"External id": 2}),
        ]
    )
    assert found["a#1", "prefill"] == Spent(30, 200, 1)
    assert found["a#1", "backward"] == Spent(40, 400, 1)
    assert found["", "backward"].host == 10
    assert found["", "rest"].host == 20
