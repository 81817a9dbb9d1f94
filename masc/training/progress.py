"""What `masc train` shows and says: progress, evaluations, what is remembered from before, where it was stopped."""

from __future__ import annotations

import dataclasses
import shlex
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from masc.compiler.ir.plan import TrainSettings
from masc.compiler.pipeline import Compilation, compile_file
from masc.dsl.diagnostics import Diagnostic
from masc.dsl.limits import SHOWN
from masc.terminal.console import bar, report, say

if TYPE_CHECKING:
    from masc.backends.torch.program import Program
    from masc.backends.torch.training.train import Run

SAMPLES = 8
"""Answers of an evaluation that are kept beside its numbers."""
TERMINATED = 128 + signal.SIGTERM
"""The exit code after SIGTERM, as shells have it."""


def remembered(compilation: Compilation, path: Path, sets: Mapping[str, str]) -> list[Diagnostic]:
    """W0605 for each train entry that an earlier `--set` says otherwise than the file does."""
    names = {field.name for field in dataclasses.fields(TrainSettings)}
    kept = [name for name, _ in compilation.set if name in names and name not in sets]
    plain = compile_file(path, sets, base=compilation.base).plan if kept else None
    if plain is None:
        return []
    now = compilation.require().train
    found = []
    for name in kept:
        said, written = getattr(now, name), getattr(plain.train, name)
        if said != written and written is not None:
            message = f"{name} = {said} counts, remembered from an earlier `--set`, not the file's {name} = {written}"
            hint = f"say `--set {name}={written}`, or `masc compile`, which forgets what `--set` said"
            found.append(Diagnostic("W0605", message, hint=hint))
    return found


def dtype_before(root: Path) -> str | None:
    """The dtype of the run that an artifact holds checkpoints of, so that it goes on in the same on any machine. None
    where there is none, or it cannot be read: whoever reads the checkpoint says so."""
    from masc.backends.torch.training import checkpoints
    from masc.compiler.files.reading import read_json

    found = checkpoints.every(root / "checkpoints")
    try:
        dtype = read_json(found[-1] / "state.json")["belongs"]["dtype"] if found else None
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return dtype if dtype in ("float32", "bfloat16") else None


def prepare(
    program: Program,
    rows: Sequence[Mapping[str, Any]],
    eval_rows: Sequence[Mapping[str, Any]] | None,
    settings: TrainSettings,
    root: Path,
    *,
    resume: bool,
    force: bool,
    scorer: str,
    trackers: Sequence[str],
    profile: int | None,
) -> Run:
    """A run whose steps and evaluations are said line by line, or shown as a bar within `shown`. Nothing is changed
    yet. Errors: those of `masc.backends.torch.training.train.prepare`."""
    from masc.backends.torch.evaluation.evaluate import evaluate as score
    from masc.backends.torch.training.train import prepare as run

    def evaluation(program: Program) -> dict[str, Any]:
        result, items = score(program, eval_rows or [], scorer, batch=max(settings.batch, 16))
        found = result.json()
        say(f"evaluation: accuracy {result.accuracy:.1%}, gold perplexity {result.gold_perplexity:.4g}")
        numbers = {name: found[name] for name in ("accuracy", "gold_perplexity", "decoded_perplexity", "items")}
        some = [{"index": i.index, "said": i.said, "gold": i.gold, "score": i.score} for i in items[:SAMPLES]]
        return {f"eval_{name}": value for name, value in {**numbers, "samples": some}.items()}

    return run(
        program,
        rows,
        eval_rows,
        settings,
        directory=root,
        resume=resume,
        force=force,
        evaluate=evaluation if eval_rows else None,
        trackers=trackers,
        profile=profile,
        tell=report,
        show=say,
    )


def describe(run: Run, path: Path, dtype: str, resume: bool) -> None:
    """Say what will be trained, and from where."""
    settings, program = run.settings, run.program
    count = sum(parameter.numel() for parameter in run.parameters.values())
    batch = settings.batch * settings.accumulate * run.processes.count
    agents, steps = _counted(len(program.plan.agents), "agent"), _counted(settings.steps, "step")
    say(f"{path}: {agents}, {count:,} trainable parameters, {_counted(len(run.rows), 'row')}")
    among = "" if run.processes.count == 1 else f", {run.processes.count} processes"
    shards = "" if run.processes.shards is None else ", base models in shards (FSDP2)"
    say(f"{steps} of {_counted(batch, 'row')}, {dtype} on {program.device}{among}{shards}")
    if not run.objective.told:
        say(f"on a reward: {run.objective.text()}")
    if run.found is not None:
        say(f"going on after step {run.found.step}")
    elif resume:
        say("there is no checkpoint yet: from the start")


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def go(run: Run) -> None:
    """Train, with a progress bar, or with ten lines where no terminal would show it."""
    settings = run.settings
    shown = "loss" if run.objective.told else "reward"
    with bar(f"{shown} {{task.fields[made]}}", "{task.fields[speed]}") as progress:
        done = 0 if run.found is None else run.found.step
        task = progress.add_task("train", total=settings.steps, completed=done, made="-", speed="")

        def listen(metrics: dict[str, Any]) -> None:
            step, made = metrics["step"], f"{metrics[shown]:.4f}"
            speed = f"{metrics['positions'] / max(metrics['seconds'], 1e-9):,.0f} positions/s"
            progress.update(task, completed=step, made=made, speed=speed)
            if not progress.console.is_terminal and step % max(1, settings.steps // 10) == 0:  # a log file has no bar
                say(f"step {step} of {settings.steps}: {shown} {made}, {speed}{gates_told(metrics)}")

        run.listen = listen
        run.go()
    if told := gates_told({"gates": run.program.openness()}):
        say(f"trained{told}")


def gates_told(metrics: Mapping[str, Any]) -> str:
    """`, gates kv(a, b) 0.98, kv(b, c) 0`; empty where there are none."""
    gates = metrics.get("gates") or {}
    shown = ", ".join(f"{name} {value:.2g}" for name, value in list(gates.items())[:SHOWN])
    more = f" and {len(gates) - SHOWN} more" if len(gates) > SHOWN else ""
    return f", gates {shown}{more}" if gates else ""


@contextmanager
def stoppable(run: Run, argument: Path | None) -> Iterator[None]:
    """Within it Ctrl-C and SIGTERM stop the run at once, and where it stopped and how it goes on is said. What is on
    the disk is whole at any moment."""
    try:
        with _terminating(run):
            yield
    except (KeyboardInterrupt, SystemExit):
        if run.processes.main:
            for line in _where(run, argument):
                say(line)
        raise


def _where(run: Run, argument: Path | None) -> list[str]:
    command = " ".join(["masc train", *([shlex.quote(str(argument))] if argument is not None else [])])
    done, saved, steps = run.done, run.saved, run.settings.steps
    if saved == 0:
        lines = [
            f"stopped after step {done} of {steps}, before the first checkpoint (save_every {run.settings.save_every})"
        ]
        return [*lines, f"`{command}` starts over"]
    if saved == steps:
        return [f"stopped after the last step, {steps}: `{command} --resume` does what is left"]
    return [
        f"stopped after step {done} of {steps}; the newest checkpoint is that of step {saved}",
        f"`{command} --resume` goes on from there",
    ]


@contextmanager
def _terminating(run: Run) -> Iterator[None]:
    """SIGTERM raises SystemExit, so that what is half-done is cleaned up and said. Signals are the main thread's."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _: object) -> None:
        run.stop = KeyboardInterrupt() if number == signal.SIGINT else SystemExit(TERMINATED)
        raise run.stop

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
