"""What `masc train` says, remembers and refuses, and how it stops."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from courier import GRAPH, Command
from masc.backends.torch.training.processes import Processes
from masc.training import progress as training

CPU = ("--device", "cpu", "--set", "dtype=float32")


def manifest_set(folder: Path) -> dict[str, str]:
    found = json.loads((folder / "courier.masc/manifest.json").read_text())["set"]
    assert isinstance(found, dict)
    return found


def rates(folder: Path) -> list[float]:
    lines = [json.loads(line) for line in (folder / "courier.masc/metrics.jsonl").read_text().splitlines()]
    return [line["rate"] for line in lines if "rate" in line]


def test_what_is_refused_is_not_remembered(masc: Command, folder: Path) -> None:
    """Nor is anything else written: a refused resume leaves the artifact as it was, and the next one goes on."""
    assert masc("train", *CPU).code == 0
    before = {path: path.read_bytes() for path in (folder / "courier.masc").rglob("*") if path.is_file()}
    for changed, told in (("batch=3", "batch = 2, not 3"), ("seed=1", "seed"), ("dtype=bfloat16", "dtype")):
        refused = masc("train", "--resume", "--device", "cpu", "--set", changed)
        assert (refused.code, "E0608" in refused.err, told in refused.err) == (1, True, True), refused.err
    (folder / "other.jsonl").write_text('{"code": "7", "word": "c"}\n')
    assert "other data: 6 rows, not 1" in masc("train", "--resume", "--data", "other.jsonl", "--device", "cpu").err
    assert {path: path.read_bytes() for path in (folder / "courier.masc").rglob("*") if path.is_file()} == before
    assert "batch" not in manifest_set(folder)
    again = masc("train", "--resume", "--device", "cpu")
    assert (again.code, "W0" in again.err) == (0, False), again.err


def test_another_base_model(masc: Command, folder: Path) -> None:
    from support import make_model

    assert masc("train", *CPU).code == 0
    before = (folder / "courier.masc/manifest.json").read_bytes()
    make_model(folder / "tiny", seed=3)
    refused = masc("train", "--resume", "--device", "cpu")
    assert (refused.code, "E0615" in refused.err) == (1, True), refused.err
    assert (folder / "courier.masc/manifest.json").read_bytes() == before


def test_an_edited_file_counts_and_is_told(masc: Command, folder: Path) -> None:
    assert masc("train", *CPU).code == 0
    (folder / "courier.mas").write_text(GRAPH.replace("steps 6", "steps 8\n  rate 1e-3"))
    done = masc("train", "--resume", "--device", "cpu")
    assert done.code == 0, done.err
    assert "W0601" in done.err
    told = " ".join(done.err.split())
    assert "with steps = 6 and rate = 0.0002, now it is steps = 8 and rate = 0.001" in told
    *_, last, following, _ = found = rates(folder)
    assert len(found) == 8
    assert f"step 6 ran at a rate of {last:.2g}, step 7 runs at {following:.2g}" in told
    (folder / "courier.mas").write_text(GRAPH.replace("batch 2", "batch 3"))
    assert "batch = 2, not 3" in masc("train", "--resume", "--device", "cpu").err


def test_what_an_earlier_set_overrules_is_told(masc: Command, folder: Path) -> None:
    assert masc("train", *CPU, "--set", "steps=2").code == 0
    assert "W0605" not in masc("train", "--resume", *CPU, "--set", "steps=2").err
    for how in ("--resume", "--force"):
        told = " ".join(masc("train", how, "--device", "cpu").err.split())
        assert "W0605" in told
        assert "steps = 2 counts, remembered from an earlier `--set`, not the file's steps = 6" in " ".join(
            told.split()
        )
    assert masc("train", "--resume", *CPU, "--set", "steps=6").code == 0
    assert len(rates(folder)) == 6


def test_a_run_goes_on_in_its_dtype(masc: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that would have chosen another one."""
    monkeypatch.setattr("masc.backends.torch.build.fast_dtype", lambda _: "float32")
    assert masc("train", "--device", "cpu", "--set", "steps=2").code == 0
    monkeypatch.setattr("masc.backends.torch.build.fast_dtype", lambda _: "bfloat16")
    again = masc("train", "--resume", "--device", "cpu", "--set", "steps=3")
    assert again.code == 0, again.err
    assert "float32 on cpu" in again.err


def test_a_reward_in_the_file(masc: Command, folder: Path) -> None:
    """It is trained on, said, recorded and gone on with; another one is not, and rows must hold what is compared."""
    text = GRAPH.replace("steps 6", "steps 2\n  objective grpo(reward = exact, group = 2)")
    (folder / "courier.mas").write_text(text)
    done = masc("train", *CPU)
    assert done.code == 0, done.err
    assert "on a reward: grpo(reward = exact, group = 2, clip = 0.2, kl = 0.02, updates = 1)" in done.out + done.err
    lines = [json.loads(line) for line in (folder / "courier.masc/metrics.jsonl").read_text().splitlines()]
    assert {"reward", "reward_std", "without_signal", "kl", "length"} <= lines[0].keys()
    used = json.loads((folder / "courier.masc/manifest.json").read_text())["training"]["settings"]
    assert json.loads(used["objective"]) == "grpo(reward = exact, group = 2, clip = 0.2, kl = 0.02, updates = 1)"
    assert masc("train", "--resume", *CPU, "--set", "steps=3").code == 0
    other = masc("train", "--resume", *CPU, "--set", "objective=supervised")
    assert (other.code, "E0608" in other.err, "not supervised" in other.err) == (1, True, True), other.err
    (folder / "bare.jsonl").write_text('{"code": "7"}\n')
    bare = " ".join(masc("train", "--force", *CPU, "--data", "bare.jsonl").err.split())
    assert "`bare.jsonl` has no column `word`, which the reward `exact` compares with" in bare


def test_positions_are_not_called_tokens(masc: Command, folder: Path) -> None:
    said = masc("train", *CPU, "--set", "steps=1").err
    assert "positions/s" in said
    assert "tokens/s" not in said


@pytest.mark.parametrize(
    ("after", "told"), [(1, "before the first checkpoint"), (3, "that of step 2"), (6, "last step")]
)
def test_where_it_stopped_is_said(
    after: int, told: str, masc: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from masc.backends.torch.program import Program
    from masc.backends.torch.training.step import Stepper

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    take = Stepper.take
    with monkeypatch.context() as patched:
        patched.setattr(
            Stepper,
            "take",
            lambda *given: interrupted() if given[1] == after else take(*given),  # type: ignore[func-returns-value]
        )
        patched.setattr(Program, "save", interrupted)
        stopped = masc("train", "courier.mas", *CPU)
    assert stopped.code == 130
    assert told in stopped.err
    assert "masc train courier.mas" in stopped.err
    again = masc("train", "courier.mas", *(["--resume"] if after > 1 else []), *CPU)
    assert again.code == 0, again.err


def test_sigterm_stops_it_at_once(masc: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 143, as a shell has it, and how to go on; whoever handled the signal before does so again."""
    from masc.backends.torch.training.step import Stepper

    take, before = Stepper.take, signal.getsignal(signal.SIGTERM)

    def struck(stepper: Stepper, step: int, *more: Any) -> Any:
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return take(stepper, step, *more)

    with monkeypatch.context() as patched:
        patched.setattr(Stepper, "take", struck)
        stopped = masc("train", *CPU)
    assert stopped.code == training.TERMINATED == 143, stopped.err
    assert "stopped after step 3 of 6; the newest checkpoint is that of step 2" in stopped.err
    assert "`masc train --resume` goes on from there" in stopped.err
    assert signal.getsignal(signal.SIGTERM) == before
    assert masc("train", "--resume", *CPU).code == 0


def test_an_interrupt_that_python_loses_comes_again(
    masc: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is raised in a finaliser is printed and forgotten; after the step it is raised once more."""
    from masc.backends.torch.training.step import Stepper

    take = Stepper.take

    class Finalised:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGINT)

    def struck(stepper: Stepper, step: int, *more: Any) -> Any:
        if step == 3:
            Finalised()
        return take(stepper, step, *more)

    monkeypatch.setattr(Stepper, "take", struck)
    monkeypatch.setattr("sys.unraisablehook", lambda _: None)
    stopped = masc("train", *CPU)
    assert stopped.code == 130, stopped.err
    assert "stopped after step 4 of 6; the newest checkpoint is that of step 2" in stopped.err


def test_an_evaluation_row_that_is_too_long_is_told_before_the_first_step(masc: Command, folder: Path) -> None:
    assert masc("train", *CPU, "--set", "steps=2").code == 0
    artifact = folder / "courier.masc"
    before = {path: path.read_bytes() for path in artifact.rglob("*") if path.is_file() and path.name[0] != "."}
    rows = [{"code": "1", "word": "a"}, {"code": "1" * 3000, "word": "a"}]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    refused = masc("train", *CPU, "--set", "steps=3", "--force")
    assert (refused.code, "E0606" in refused.err) == (1, True), refused.err
    assert "of the evaluation data, row 2" in refused.err
    assert {path: path.read_bytes() for path in before} == before


def test_an_evaluation_that_fails_at_the_end_says_where_the_weights_are(
    masc: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from masc.dsl.diagnostics import fail

    def failing(*_: object, **__: object) -> None:
        raise fail("E0606", "row 1 runs past the end")

    with monkeypatch.context() as patched:
        patched.setattr("masc.backends.torch.evaluation.evaluate.evaluate", failing)
        refused = masc("train", *CPU, "--set", "steps=2")
    assert (refused.code, "E0606" in refused.err) == (1, True), refused.err
    assert "`--checkpoint last` takes them" in refused.err
    assert masc("eval", "--checkpoint", "last", "--limit", 1).code == 0


@pytest.mark.parametrize("option", ["--resume", None])
def test_a_changed_graph_is_told_with_what_has_changed_and_ways_on(
    masc: Command, folder: Path, option: str | None
) -> None:
    assert masc("train", *CPU, "--set", "steps=2").code == 0
    (folder / "courier.mas").write_text(GRAPH.replace("open = 4", "open = 2"))
    refused = masc("train", *CPU, *([option] if option else []))
    assert (refused.code, "E0513" in refused.err) == (1, True), refused.err
    changed = refused.err.partition("another graph: ")[2].splitlines()[0]
    assert changed.startswith("- ")
    assert "; + " in changed
    assert "-o" not in refused.err.partition("hint")[2].split()
    done = masc("train", *CPU, "--set", "steps=2", "--init-from", folder / "courier.masc", "--force")
    assert (done.code, "beginning with" in done.err) == (0, True), done.err


def test_another_dtype_is_not_told_as_another_base_model(masc: Command, folder: Path) -> None:
    assert masc("train", "--device", "cpu", "--set", "dtype=bfloat16", "--set", "steps=2").code == 0
    refused = masc("train", "--resume", *CPU, "--set", "steps=4")
    assert (refused.code, "E0608" in refused.err, "E0615" in refused.err) == (1, True, False), refused.err


def test_an_audit_of_a_changed_file_takes_the_weights_as_its_hint_says(masc: Command, folder: Path) -> None:
    assert masc("train", *CPU, "--set", "steps=2").code == 0
    (folder / "courier.mas").write_text(GRAPH.replace("open = 4", "open = 2"))
    asked = ("audit", "courier.mas", "--watched", 1, "--device", "cpu", "--dtype", "float32")
    refused = masc(*asked)
    assert (refused.code, "--weights" in refused.err) == (1, True), refused.err
    for how in (("--weights", "courier.masc"), ("--weights", "courier.masc", "--checkpoint", "last")):
        done = masc(*asked, *how)
        assert (done.code, "sender -> receiver" in done.out) == (0, True), done.err


@pytest.mark.parametrize(("words", "steps"), [(["--profile"], 3), (["--profile", "1"], 1), (["--profile=2"], 2)])
def test_a_profile(words: list[str], steps: int, masc: Command, folder: Path) -> None:
    """The number may be left out, also before other words."""
    done = masc("train", *words, "courier.mas", *CPU)
    assert done.code == 0, done.err
    assert f"trace of {steps} steps -> courier.masc/profile.json.gz" in done.err
    assert "ms a step" in done.err
    assert (folder / "courier.masc/profile.json.gz").is_file()
    assert masc("check", "courier.masc").code == 0


def test_a_profile_of_no_or_too_many_steps(masc: Command, folder: Path) -> None:
    assert masc("train", "--profile", "0", *CPU).code == 2
    assert masc("train", "--profile", "1", "--profile", "2", *CPU).code == 2
    refused = masc("train", "--profile", "5", *CPU)
    assert (refused.code, "E0645" in refused.err) == (1, True), refused.err
    assert not (folder / "courier.masc").exists()


def test_what_is_trained_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """One of a kind is not told as several, and who starts processes sees that they work together."""
    plan, objective = SimpleNamespace(agents=[1]), SimpleNamespace(told=True)
    program = SimpleNamespace(plan=plan, device="cpu")
    settings = SimpleNamespace(steps=1, batch=2, accumulate=1)
    shared = {"program": program, "settings": settings, "objective": objective, "parameters": {}, "found": None}
    for processes, told in (
        (Processes(), "1 step of 2 rows, float32 on cpu\n"),
        (
            Processes(2, shards=object()),
            "1 step of 4 rows, float32 on cpu, 2 processes, base models in shards (FSDP2)\n",
        ),
    ):
        run: Any = SimpleNamespace(**shared, rows=[1, 2], processes=processes)
        training.describe(run, Path("x.mas"), "float32", False)
        assert capsys.readouterr().err == f"x.mas: 1 agent, 0 trainable parameters, 2 rows\n{told}"
