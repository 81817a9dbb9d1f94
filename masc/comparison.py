"""`masc compare`: from one graph the rows of DiffMAS's table and the controls that the paper leaves out, on the same
items.

Each row at each value of a sweep and each seed is a *run* in a folder of its own, named by a hash of all that its
weights depend on; each result in it is named by a hash of the test rows and how they are answered. A result that is
there is not found again; a run that was stopped while training goes on from its checkpoint, and one that is trained is
asked other rows without being trained again.
"""

from __future__ import annotations

import gc
import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from masc.compiler.artifact import model_hash
from masc.compiler.channel import as_text
from masc.compiler.controls import alone, pooled, stopped, unread
from masc.compiler.files import atomic_write
from masc.compiler.graph import Graph
from masc.compiler.pipeline import Compilation, lower
from masc.compiler.plan import Lora, Loss, Plan, Prefill, Think, TrainSettings
from masc.compiler.plan_text import print_plan
from masc.console import bar, say
from masc.dsl.diagnostics import did_you_mean, fail
from masc.session import accepted, compile_source_of, data_path

if TYPE_CHECKING:
    from masc.backends.torch.program import Program

ROWS: dict[str, tuple[str, bool]] = {
    "single": ("single agent", False),
    "single-tuned": ("single agent, fine-tuned", True),
    "pooled-tuned": ("single agent that reads all prompts, fine-tuned", True),
    "text": ("text agents", False),
    "latent": ("latent agents, untrained (LatentMAS)", False),
    "stopped": ("latent agents, upstream gradient stopped", True),
    "team": ("as written, end to end (DiffMAS)", True),
}
"""The rows in the order of the table: what each is called, and whether it is trained."""
RESULTS = 3
"""Raised when what a run would find changes for another reason than its inputs; earlier results are then run again."""
BASELINE = "single-tuned"
"""What the others are held against."""


@dataclass(frozen=True)
class Task:
    """What all rows share. samples: sampled answers for the agreement (0: none), of the first `sampled` rows."""

    train_rows: Sequence[Mapping[str, Any]]
    test_rows: Sequence[Mapping[str, Any]]
    scorer: str
    output: str
    batch: int = 16
    samples: int = 5
    sampled: int = 40
    dtype: str | None = None
    device: str | None = None
    allow_code_execution: bool = False


@dataclass(frozen=True)
class Result:
    """One run. values: what the sweep set; report: `evaluate.Report` as a dict; parameters: trained ones; tokens,
    positions: answer tokens and all positions that it was trained on, summed; agreement: mean over rows (None: not
    measured); right: for each test row whether it was answered right."""

    row: str
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
    right: list[bool]


@dataclass(frozen=True)
class Run:
    """One row at one value of the sweep with one seed, before it is run."""

    row: str
    values: dict[str, str]
    seed: int
    compilation: Compilation
    settings: TrainSettings

    @property
    def trains(self) -> bool:
        return ROWS[self.row][1]


def task_of(
    compilation: Compilation,
    train: Path | None,
    test: Path | None,
    scorer: str,
    output: str | None = None,
    limit: int | None = None,
    rows: Sequence[str] | None = None,
    **options: Any,
) -> Task:
    """The data of a comparison, read and checked. train, test: None: what the file names; where no row (out of `rows`,
    None: all) trains, nothing is read to train on. options: of a Task."""
    from masc.backends.torch.data import columns_of, read_rows

    plan = compilation.require()
    if output is not None and output not in plan.outputs:
        hint = did_you_mean(output, plan.outputs) or f"its outputs are {', '.join(plan.outputs)}"
        raise fail("E0611", f"the graph has no output `{output}`", hint=hint)
    settings, base = plan.train, compilation.base
    train_rows: Sequence[Mapping[str, Any]] = ()
    if any(ROWS[row][1] for row in rows or ROWS):
        train_rows = read_rows(data_path(train, settings.data, base, "data"), columns_of(plan, labels=True))
    labels = columns_of(plan, labels=scorer != "code", texts=False)
    test_rows = read_rows(data_path(test, settings.eval_data, base, "eval_data"), labels)[:limit]
    return Task(train_rows, test_rows, scorer, output or plan.outputs[0], **options)


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
) -> list[Result]:
    """Run every row of a graph's table that has not been run yet; returns all results, in the order of the table.

    rows: names out of ROWS (None: all that say something of their own, see `idle`). sweep: values by param or train
    entry; every combination is run. listen: called with each training step's metrics. Errors: those of the file, of the
    data, of training.
    """
    results = []
    for run in runs(path, task, rows, seeds, sets or {}, sweep or {}):
        results.append(_result(run, out, task, listen))
    return results


def runs(
    path: Path,
    task: Task,
    rows: Sequence[str] | None,
    seeds: Sequence[int],
    sets: Mapping[str, str],
    sweep: Mapping[str, Sequence[str]],
) -> Iterator[Run]:
    """What there is to run: row by row, then value by value, then seed by seed."""
    for name, instead in {"data": "--train", "eval_data": "--test", "seed": "--seeds"}.items():
        if name in sets or name in sweep:
            raise fail("E0611", f"`{name}` cannot be set for a comparison", hint=f"give {instead}")
    points = [dict(zip(sweep, values, strict=True)) for values in itertools.product(*sweep.values())]
    compiled = [(values, accepted(compile_source_of(path, {**sets, **values}))) for values in points]
    for row in dict.fromkeys(rows or ROWS):
        for values, compilation in compiled:
            if rows is None and (why := idle(row, compilation, task.output)) is not None:
                say(f"{row}: left out, {why}")
                continue
            for seed in dict.fromkeys(seeds):
                settings = replace(compilation.require().train, seed=seed, keep=1)
                yield Run(row, values, seed, compilation, settings)


def idle(row: str, compilation: Compilation, output: str) -> str | None:
    """Why a row would say nothing of its own about a graph; None where it does."""
    graph, plan = _graph(compilation), compilation.require()
    if row == "pooled-tuned" and not unread(graph, output):
        return "the answering agent reads every input itself"
    if row == "latent" and lower(compilation, as_text(graph)) == plan:
        return "nothing but text crosses"
    if row == "stopped":
        now = lower(compilation, stopped(graph))
        if now == plan:
            return "no gradient crosses an edge as it is"
        if not any(o.reaches for o in now.operations if isinstance(o, Loss)):
            return "who answers is frozen, and nothing else is left to train"
    return None


def check_rows(rows: Sequence[str]) -> None:
    """E0611 for a name that is no row."""
    for row in rows:
        if row not in ROWS:
            hint = did_you_mean(row, list(ROWS)) or f"the rows are {', '.join(ROWS)}"
            raise fail("E0611", f"there is no row `{row}`", hint=hint)


def hidden_inputs(compilation: Compilation, output: str) -> tuple[str, ...]:
    """The inputs that a single agent lacks: only others than the answering agent read them."""
    return unread(_graph(compilation), output)


def _graph(compilation: Compilation) -> Graph:
    compilation.require()
    assert compilation.graph is not None
    return compilation.graph


# -- one run ----------------------------------------------------------------------------------------------------------


def _result(run: Run, out: Path, task: Task, listen: Callable[[dict[str, Any]], None] | None) -> Result:
    """The result of a run, read where it is there."""
    folder = out / "runs" / f"{run.row}-{_mark(run, task)[:12]}"
    file = folder / f"result-{_asked(task)[:12]}.json"
    title = " ".join([run.row, *(f"{k}={v}" for k, v in run.values.items()), f"seed={run.seed}"])
    if file.exists():
        say(f"{title}: done before")
        known = json.loads(file.read_text(encoding="utf-8"))
        return Result(**{**known, "row": run.row, "values": run.values, "seed": run.seed})
    say(f"{title}: running")
    program, rank = build_row(run, task)
    if run.trains:
        _train(program, run, task, folder, listen)
    steps, tokens, positions, seconds = _trained(folder) if run.trains else (0, 0, 0, 0.0)
    found, right, agreed = _evaluate(program, task)
    result = Result(
        row=run.row,
        values=run.values,
        seed=run.seed,
        folder=folder.name,
        report=found,
        parameters=trained_parameters(program) if run.trains else 0,
        rank=rank,
        steps=steps,
        tokens=tokens,
        positions=positions,
        train_seconds=seconds,
        agreement=agreed,
        right=right,
    )
    if run.row == "team":  # an artifact like any other: `masc run` and `masc audit` take it
        program.save(folder / f"{program.plan.name}.masc", force=True)
    folder.mkdir(parents=True, exist_ok=True)
    atomic_write(file, json.dumps(asdict(result), indent=1) + "\n")
    say(f"{title}: accuracy {found['accuracy']:.1%} in {found['seconds']:.0f} s")
    del program
    gc.collect()
    return result


def plan_of(run: Run, output: str, lora: Lora | None = None) -> Plan:
    """The plan of a row. lora: the adapter of a single agent."""
    graph = _graph(run.compilation)
    if run.row.startswith("single"):
        return lower(run.compilation, alone(graph, output, lora))
    if run.row.startswith("pooled"):
        return lower(run.compilation, pooled(graph, output, lora))
    if run.row == "text":
        return lower(run.compilation, as_text(graph))
    if run.row == "stopped":
        return lower(run.compilation, stopped(graph))
    return run.compilation.require()


def build_row(run: Run, task: Task) -> tuple[Program, int | None]:
    """A row's program with fresh adapters, and a single agent's rank: the one with which it has as many trainable
    parameters as the team, as nearly as a whole rank allows."""
    if not (run.trains and run.row.startswith(("single", "pooled"))):
        return _build(run, task, plan_of(run, task.output)), None
    team = _build(run, task, run.compilation.require())
    wanted = trained_parameters(team)
    del team
    plan = plan_of(run, task.output)
    own = plan.agents[0].lora or Lora()
    program = _build(run, task, plan_of(run, task.output, replace(own, rank=1, alpha=own.alpha / own.rank)))
    rank = max(1, round(wanted / trained_parameters(program)))
    scaled = replace(own, rank=rank, alpha=own.alpha * rank / own.rank)
    return _build(run, task, plan_of(run, task.output, scaled)), rank


def _build(run: Run, task: Task, plan: Plan) -> Program:
    from masc.backends.torch.build import build, fast_dtype

    dtype = task.dtype or run.settings.dtype or fast_dtype(task.device)
    program = build(plan, run.compilation.base, dtype=dtype, device=task.device, seed=run.seed)
    if run.row == "team":
        program.compilation = run.compilation
    return program


def trained_parameters(program: Program) -> int:
    """How many numbers training changes: adapters and links as far as some loss reaches them."""
    from masc.backends.torch.reached import reached

    return sum(program.get_parameter(name).numel() for name in reached(program))


def _train(
    program: Program, run: Run, task: Task, folder: Path, listen: Callable[[dict[str, Any]], None] | None
) -> None:
    from masc.backends.torch.train import train

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

        train(program, task.train_rows, directory=folder, resume=True, listen=note, **asdict(run.settings))


def _trained(folder: Path) -> tuple[int, int, int, float]:
    """Steps, answer tokens, positions and seconds of a run's training, also of what was done before it was stopped."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    steps = [line for line in lines if "loss" in line]
    total = {key: sum(line[key] for line in steps) for key in ("tokens", "positions", "seconds")}
    return len(steps), total["tokens"], total["positions"], round(total["seconds"], 3)


def _evaluate(program: Program, task: Task) -> tuple[dict[str, Any], list[bool], float | None]:
    from masc.backends.torch.evaluate import evaluate
    from masc.backends.torch.stability import agreement

    with bar() as progress:
        shown = progress.add_task("eval", total=len(task.test_rows))
        report, items = evaluate(
            program,
            task.test_rows,
            task.scorer,
            batch=task.batch,
            output=task.output,
            allow_code_execution=task.allow_code_execution,
            tick=lambda count: progress.advance(shown, count),
        )
    agreed: float | None = None
    if task.samples:
        rows = task.test_rows[: task.sampled]
        shares = agreement(program, rows, task.scorer, output=task.output, samples=task.samples, batch=task.batch)
        agreed = sum(shares) / len(shares)
    return report.json(), [item.correct for item in items], agreed


def _mark(run: Run, task: Task) -> str:
    """A hash of all that a run's weights depend on. A seed counts only where it decides something."""
    from masc.backends.torch.build import fast_dtype

    plan = plan_of(run, task.output)
    settings = asdict(run.settings)
    drawn = run.trains or any("splices" in line or "fuses" in line for line in print_plan(plan).splitlines())
    if not drawn:
        settings["seed"] = None
    known: dict[str, Any] = {
        "version": RESULTS,
        "row": run.row,
        "plan": plan.fingerprint(),
        "team": _team(run) if run.trains else None,
        "models": [_content(model.target, str(run.compilation.base)) for model in plan.models],
        "train": [settings, _digest(task.train_rows)] if run.trains else settings["seed"],
        "output": task.output,
        "numbers": [task.dtype or run.settings.dtype or fast_dtype(task.device), task.device],
    }
    return _hash(known)


def _asked(task: Task) -> str:
    """A hash of what a run is asked, and how: with the run's own all that a result depends on."""
    return _hash([_digest(task.test_rows), task.scorer, task.samples, task.sampled if task.samples else 0])


def _hash(known: Any) -> str:
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def _team(run: Run) -> list[Any]:
    """What of the team decides how a row is trained that is not in the row's own plan."""
    plan = run.compilation.require()
    return [_sizes(plan), [_content(model.target, str(run.compilation.base)) for model in plan.models]]


def _sizes(plan: Plan) -> list[str]:
    """What decides how many parameters of a team are trained, and so the rank of a single agent."""
    found = [repr((agent.name, agent.model, agent.lora)) for agent in plan.agents]
    for o in plan.operations:
        if isinstance(o, Loss):
            found.append(repr(o.reaches))
        elif isinstance(o, Think):
            found.append(o.align)
        elif isinstance(o, Prefill):
            found += [splice.shape for splice in o.splices]
            found += [repr((fuse.width, fuse.layers)) for fuse in o.fuses]
    return found


_HASHES: dict[tuple[str, str], str | None] = {}


def _content(target: str, base: str) -> str | None:
    """A model's content hash; read once, it is a large file."""
    from masc.backends.torch.fetch import resolve

    if (target, base) not in _HASHES:
        _HASHES[target, base] = model_hash(resolve(target, Path(base)))
    return _HASHES[target, base]


def _digest(rows: Sequence[Mapping[str, Any]]) -> str:
    return _hash([dict(row) for row in rows])


def leaked(task: Task) -> int:
    """How many test rows are training rows as well."""
    seen = {_digest([row]) for row in task.train_rows}
    return sum(_digest([row]) in seen for row in task.test_rows)
