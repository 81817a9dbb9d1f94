"""`masc compare`: the rows of DiffMAS's table and further controls, made from one graph and run on the same items.

Each run (`comparison_runs.py`) has a folder of its own. A result that exists is not computed again. A run that was
stopped during training goes on from its checkpoint. A trained run can be evaluated on other rows without new training.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from masc.compiler.analysis.policy import policy
from masc.compiler.files.writing import atomic_write
from masc.compiler.ir.adapter import Lora
from masc.compiler.ir.plan import Plan
from masc.compiler.language.objectives import Grpo
from masc.session.costing import cost_of
from masc.session.outputs import check_table_folder
from masc.studies.comparison_runs import (
    Run,
    Task,
    answers_key,
    label_of,
    plan_of,
    runs,
    spoken,
    voters,
    weights_key,
)
from masc.terminal.console import bar, report, say

if TYPE_CHECKING:
    from masc.backends.torch.program import Program


@dataclass(frozen=True)
class Result:
    """The result of one run. label: the row's title; values: the sweep's values; report: `evaluate.Report` as a dict;
    parameters: the number of trained parameters; tokens, positions: all answer tokens and all positions of its
    training; agreement: the mean over rows (None: not measured); right: the score of each test row, 0 to 1."""

    row: str
    label: str
    values: dict[str, str]
    seed: int
    folder: str
    report: dict[str, Any]
    parameters: int
    rank: int | None
    steps: int
    tokens: int
    positions: int
    train_seconds: float
    agreement: float | None
    right: list[float]
    flops: float | None = None
    """Of the products that answer one test row (None: not known), answers as long as `max_tokens` allows; of a majority
    all its answers."""
    each: int | None = None
    """Positions that models run through for one test row, likewise."""
    voters: int = 1
    """Answers to a row, of which the one counts that most of them give."""


Doing = Callable[[Sequence[Run], Path, Task], list[Result]]
"""How runs are done: given all of them, the folder and what they share, their results in order."""


def compare(
    path: Path,
    out: Path,
    task: Task,
    *,
    rows: Sequence[str] | None = None,
    seeds: Sequence[int] = (0,),
    sets: Mapping[str, str] | None = None,
    sweep: Mapping[str, Sequence[str]] | None = None,
    listen: Callable[[dict[str, Any]], None] | None = None,
    doing: Doing | None = None,
) -> list[Result]:
    """Run every row of the table that has not been run yet. Returns all results in the order of the table.

    rows: names out of ROWS (None: all but those that `comparison_runs.idle` leaves out). sweep: the values of each
    param or train entry; every combination is run. listen: called with the metrics of each training step. doing: how
    runs are done (None: here, one after the other). Raises the errors of compiling, of reading data and of training.
    """
    check_table_folder(out, path)
    every = runs(path, task, rows, seeds, sets or {}, sweep or {})
    if doing is not None:
        return doing(list(every), out, task)
    return [result_of(run, out, task, listen) for run in every]


# -- one run ---------------------------------------------------------------------------------------------------------


def result_of(run: Run, out: Path, task: Task, listen: Callable[[dict[str, Any]], None] | None) -> Result:
    """The result of a run: read if it exists, else computed and written."""
    folder = out / "runs" / f"{run.weights}-{weights_key(run, task)[:12]}"
    file = folder / f"result-{answers_key(run, task)[:12]}.json"
    title = run.name
    if file.exists():
        say(f"{title}: done before")
        known = json.loads(file.read_text(encoding="utf-8"))
        known |= {"row": run.row, "label": label_of(run.row, run.compilation), "values": run.values, "seed": run.seed}
        return Result(**known | _cost(run, task))
    say(f"{title}: running")
    program, rank = build_row(run, task)
    if run.trains:
        _train(program, run, task, folder, listen)
    steps, tokens, positions, seconds = _trained(folder) if run.trains else (0, 0, 0, 0.0)
    cost = _cost(run, task)
    found, right, agreed = _evaluate(program, task, cost["voters"])
    result = Result(
        row=run.row,
        label=label_of(run.row, run.compilation),
        values=run.values,
        seed=run.seed,
        folder=folder.name,
        report=found,
        parameters=trained_parameters(program, run=run) if run.trains else 0,
        rank=rank,
        steps=steps,
        tokens=tokens,
        positions=positions,
        train_seconds=seconds,
        agreement=agreed,
        right=right,
        **cost,
    )
    if run.row == "team":  # an ordinary artifact, for `masc run` and `masc audit`
        program.save(folder / f"{program.plan.name}.masc", force=True)
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(file, json.dumps(asdict(result), indent=1) + "\n")
    say(f"{title}: accuracy {sum(right) / len(right):.1%} in {found['seconds']:.0f} s")
    del program
    gc.collect()
    return result


def build_row(run: Run, task: Task) -> tuple[Program, int | None]:
    """A row's program with fresh adapters. For a single agent, and for the one that answers among text agents that are
    trained, also its rank: the whole number with which the row comes nearest to as many trainable parameters as the
    team has."""
    plan = plan_of(run, task.output)
    name = next(turn.agent for turn in plan.answering if turn.answer and turn.answer.output == task.output)
    own = plan.agent(name).lora or (Lora() if run.weights.startswith(("single", "pooled")) else None)
    if not (run.trains and own and run.weights.startswith(("single", "pooled", "text"))):
        return _build(run, task, plan), None
    team = _build(run, task, run.compilation.require())
    wanted = trained_parameters(team, run=replace(run, row="team"))
    del team
    program = _build(run, task, plan_of(run, task.output, own.of_rank(1)))

    def grows(parameter: str) -> bool:
        return program.owner(parameter) == name and (".lora_A." in parameter or ".lora_B." in parameter)

    each = trained_parameters(program, grows, run)
    rank = max(1, round((wanted - trained_parameters(program, run=run) + each) / each))
    return _build(run, task, plan_of(run, task.output, own.of_rank(rank))), rank


def _build(run: Run, task: Task, plan: Plan) -> Program:
    from masc.backends.torch.build import build, fast_dtype
    from masc.backends.torch.engine.history import History

    dtype = task.dtype or run.settings.dtype or fast_dtype(task.device)
    history = History(run.compilation if run.row == "team" else None)
    return build(plan, run.compilation.base, dtype=dtype, device=task.device, seed=run.seed, history=history)


def trained_parameters(
    program: Program, counts: Callable[[str], bool] = lambda name: True, run: Run | None = None
) -> int:
    """The number of trainable parameters that some loss reaches, or a reward, also by way of what agents sample for
    each other. counts: which ones to count, by name; run: whose program it is (None: of one without rewards)."""
    from masc.backends.torch.training.reached import reached

    plan = program.plan
    if run is not None and isinstance(run.settings.objective, Grpo):
        plan = policy(spoken(run, plan))
    with program.running(plan):
        return sum(program.get_parameter(name).numel() for name in reached(program) if counts(name))


def _train(
    program: Program, run: Run, task: Task, folder: Path, listen: Callable[[dict[str, Any]], None] | None
) -> None:
    from masc.backends.torch.training.train import prepare

    steps = run.settings.steps
    with bar("loss {task.fields[loss]}") as progress:
        shown = progress.add_task(f"train {run.row}", total=steps, loss="-")

        def note(metrics: dict[str, Any]) -> None:
            step, loss = metrics["step"], f"{metrics['loss']:.4f}"
            progress.update(shown, completed=step, loss=loss)
            if not progress.console.is_terminal and step % max(1, steps // 5) == 0:
                say(f"  step {step} of {steps}: loss {loss}")
            if listen is not None:
                listen(metrics)

        rows, settings = task.train_rows, run.settings
        with program.running(spoken(run, program.plan)):
            prepare(program, rows, None, settings, directory=folder, resume=True, listen=note, tell=report).go()


def _trained(folder: Path) -> tuple[int, int, int, float]:
    """Steps, answer tokens, positions and seconds of a run's training, those before a stop included."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    steps = [line for line in lines if "loss" in line]
    total = {key: sum(line[key] for line in steps) for key in ("tokens", "positions", "seconds")}
    return len(steps), total["tokens"], total["positions"], round(total["seconds"], 3)


def _cost(run: Run, task: Task) -> dict[str, Any]:
    """Of one test row, and how many answers to it are asked for."""
    count = (voters(run.compilation, task) or 1) if run.row == "majority" else 1
    one = cost_of(plan_of(run, task.output), run.compilation, task.test_rows)
    if one is None:
        return {"flops": None, "each": None, "voters": count}
    return {"flops": one.flops * count, "each": one.positions * count, "voters": count}


def _evaluate(program: Program, task: Task, voters: int) -> tuple[dict[str, Any], list[float], float | None]:
    """What is reported, the score of each test row, and the agreement. voters: answers to a row; of several, sampled as
    for the agreement, the one counts that most of them give."""
    from masc.backends.torch.evaluation.evaluate import evaluate, votes
    from masc.backends.torch.evaluation.stability import TEMPERATURE, TOP_P, agreement

    decoding = task.decoding
    if voters > 1:
        decoding = replace(decoding, temperature=TEMPERATURE, top_p=TOP_P)

    with bar() as progress:
        shown = progress.add_task("eval", total=len(task.test_rows) * voters)
        report, items = evaluate(
            program,
            task.test_rows,
            task.scorer,
            batch=task.batch,
            output=task.output,
            repeat=voters,
            decoding=decoding,
            allow_code_execution=task.allow_code_execution,
            sandbox=task.sandbox,
            tick=lambda count: progress.advance(shown, count),
        )
    agreed: float | None = None
    if task.samples:
        rows = task.test_rows[: task.sampled]
        shares = agreement(
            program,
            rows,
            task.scorer,
            output=task.output,
            samples=task.samples,
            batch=task.batch,
            max_tokens=task.decoding.max_tokens,
        )
        agreed = sum(shares) / len(shares)
    right = votes(items, task.scorer, voters) if voters > 1 else [item.score for item in items]
    told: dict[str, Any] = json.loads(json.dumps(report.json()))  # as it is read where a run is done before
    return told, right, agreed
