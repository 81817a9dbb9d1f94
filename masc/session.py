"""What lies between the command and the library: artifacts, staleness, progress bars, files of answers."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from masc.compiler.artifact import (
    Artifact,
    Layout,
    artifact_of,
    atomic_write,
    has_weights,
    locate,
    read_artifact,
    state,
    write_artifact,
)
from masc.compiler.pipeline import Compilation, Cut, compile_file
from masc.compiler.plan import Plan, TrainSettings
from masc.console import bar, report, say
from masc.dsl.diagnostics import MascError, errors, fail

if TYPE_CHECKING:
    from masc.backends.torch.evaluate import Item, Report
    from masc.backends.torch.program import Program


def compile_source_of(path: Path, sets: Mapping[str, str], cut: Cut = ()) -> Compilation:
    """Compile a file, or an artifact's copy of one: with what `--set` said then, paths relative to where it was compiled."""
    layout = Layout(path.parent)
    if path.parent.suffix == ".masc" and layout.manifest.exists():
        manifest = read_artifact(layout.root).manifest
        base = Path(manifest.base)
        return compile_file(path, {**dict(manifest.set), **sets}, cut, base if base.is_dir() else None)
    return compile_file(path, sets, cut)


def compiled(path: Path, sets: Mapping[str, str], cut: Cut = ()) -> Compilation:
    """The same, with its warnings printed; MascError on errors."""
    compilation = compile_source_of(path, sets, cut)
    if compilation.plan is None:
        raise MascError(compilation.diagnostics)
    report(compilation.diagnostics)
    return compilation


def emit(path: Path, sets: Mapping[str, str], level: str) -> str:
    """A level of the compilation as text: ast, graph or plan."""
    from masc.compiler.graph_text import print_graph
    from masc.compiler.plan_text import print_plan
    from masc.dsl.dump import dump
    from masc.dsl.read import read

    if level == "ast":
        tree, diagnostics, _ = read(path)
        if tree is None or errors(diagnostics):
            raise MascError(diagnostics)
        return dump(tree).rstrip("\n")
    compilation = compiled(path, sets)
    assert compilation.graph is not None
    return (print_graph(compilation.graph) if level == "graph" else print_plan(compilation.require())).rstrip("\n")


def compile_to(path: Path, out: Path | None, sets: Mapping[str, str], force: bool) -> Path:
    """Write (or bring up to date) an artifact; returns its folder."""
    root = out or artifact_of(path)
    compilation = compiled(path, sets)
    write_artifact(root, compilation, force=force)
    return root


def remembered(root: Path, sets: Mapping[str, str]) -> dict[str, str]:
    """What `--set` said when the artifact was compiled, and what it says now."""
    if not Layout(root).manifest.exists():
        return dict(sets)
    return {**dict(read_artifact(root).manifest.set), **sets}


# -- running ----------------------------------------------------------------------------------------------------------


def open_program(argument: Path | None, *, dtype: str, device: str | None, cut: Cut = ()) -> Program:
    """The program of a file or artifact, with its trained weights if it has any. What is missing is compiled; what
    is stale, or was trained on another base model, is refused."""
    path = locate(argument, Path.cwd())
    root = artifact_of(path)
    compilation = compile_source_of(path, remembered(root, {}))
    if compilation.plan is None:
        raise MascError(compilation.diagnostics)
    if (found := state(root, compilation)) == "missing":
        write_artifact(root, compilation)
        say(f"compiled {path} -> {root}")
    elif found == "stale":
        raise fail(
            "E0614",
            f"`{path}` has changed since `{root}` was compiled",
            hint="`masc compile` brings it up to date; trained weights are kept if the plan is the same",
        )
    artifact = read_artifact(root)
    report(artifact.warnings)
    if cut:
        compilation = compile_source_of(path, remembered(root, {}), cut)
    return load_program(compilation, artifact, dtype=dtype, device=device)


def load_program(compilation: Compilation, artifact: Artifact, *, dtype: str, device: str | None) -> Program:
    """A program for a compilation with the weights of an artifact."""
    from masc.backends.torch.build import build

    plan = compilation.require()
    program = build(plan, compilation.base, dtype=dtype, device=device, seed=artifact.manifest.seed)
    program.compilation = compilation
    if artifact.manifest.trained:
        _check_models(artifact, program)
        program.load_weights(artifact.layout.root)
    else:
        say("not trained yet: fresh adapters, which change nothing")
    return program


def _check_models(artifact: Artifact, program: Program) -> None:
    recorded = {record.name: record.hash for record in artifact.manifest.models}
    for record in program.model_records():
        if recorded.get(record.name) not in (None, record.hash):
            raise fail(
                "E0615",
                f"model `{record.name}` ({record.target}) is not the one that `{artifact.layout.root}` was trained on",
                hint="put the model back, or train again with --force",
            )


def stream(program: Program, row: Mapping[str, str]) -> None:
    """Print one answer as it is decoded."""
    known = set(program.plan.inputs)
    if unknown := sorted(set(row) - known):
        from masc.dsl.diagnostics import did_you_mean

        hint = did_you_mean(unknown[0], sorted(known)) or f"its inputs are {', '.join(sorted(known))}"
        raise fail("E0604", f"the graph has no input `{unknown[0]}`", hint=hint)
    for piece in program.generate([row], stream=True):
        print(piece, end="", flush=True)
    print()


def run_file(program: Program, data: Path, out: Path, batch: int) -> None:
    """Answer every row of a file. Answers are appended to `OUT.partial` batch by batch, so that a run that was
    stopped goes on where it was; at the end they are written to `out` in the order of the rows."""
    from masc.backends.torch.data import columns_of, read_rows
    from masc.backends.torch.evaluate import say_all

    if out.exists():
        raise fail("E0612", f"`{out}` is there already", hint="delete it, or choose another --out")
    rows = read_rows(data, columns_of(program.plan, labels=False))
    partial = out.with_name(out.name + ".partial")
    mark = hashlib.sha256(json.dumps([rows, program.plan.fingerprint()], sort_keys=True).encode()).hexdigest()
    done = _read_partial(partial, mark)
    partial.parent.mkdir(parents=True, exist_ok=True)
    with partial.open("a", encoding="utf-8") as file, bar() as progress:
        if file.tell() == 0:
            file.write(json.dumps({"of": mark}) + "\n")
        task = progress.add_task("run", total=len(rows), completed=len(done))
        for i, said in say_all(program, rows, batch, frozenset(done)):
            done[i] = {name: one.text for name, one in said.items()}
            file.write(json.dumps({"index": i, "said": done[i]}, ensure_ascii=False) + "\n")
            file.flush()
            progress.advance(task)
    inputs = columns_of(program.plan, labels=False)
    lines = [
        json.dumps({**{name: row[name] for name in inputs}, **done[i]}, ensure_ascii=False) + "\n"
        for i, row in enumerate(rows)
    ]
    atomic_write(out, "".join(lines))
    partial.unlink()
    say(f"{len(rows)} answers -> {out}")


def _read_partial(partial: Path, mark: str) -> dict[int, dict[str, str]]:
    """The answers of a run that was stopped. E0612 if it was of other rows or another graph."""
    if not partial.exists():
        return {}
    kept: list[str] = []
    done: dict[int, dict[str, str]] = {}
    for line in partial.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            break  # the line that was being written
        if "of" in entry and entry["of"] != mark:
            raise fail(
                "E0612", f"`{partial}` is of other rows or another graph", hint="delete it, or choose another --out"
            )
        if "index" in entry:
            done[entry["index"]] = entry["said"]
        kept.append(line + "\n")
    atomic_write(partial, "".join(kept))
    return done


def evaluate(
    program: Program,
    data: Path | None,
    scorer: str,
    output: str | None,
    limit: int | None,
    batch: int,
    allow_code_execution: bool,
) -> tuple[Report, list[Item]]:
    """Score a program on a file of rows, with a progress bar."""
    from masc.backends.torch.data import columns_of, read_rows
    from masc.backends.torch.evaluate import evaluate as run

    assert program.compilation is not None
    path = _data_path(data, program.plan.train.eval_data, program.compilation.base, "eval_data")
    rows = read_rows(path, columns_of(program.plan, labels=scorer != "code"))[:limit]
    with bar() as progress:
        task = progress.add_task("eval", total=len(rows))
        return run(
            program,
            rows,
            scorer,
            batch=batch,
            output=output,
            allow_code_execution=allow_code_execution,
            tick=lambda count: progress.advance(task, count),
        )


def report_rows(result: Report) -> list[tuple[str, str]]:
    def number(value: float) -> str:
        return f"{value:.4g}" if math.isfinite(value) else "-"

    return [
        ("accuracy", f"{result.accuracy:.1%}  ({result.correct} of {result.items})"),
        ("95% interval", f"{result.low:.1%} to {result.high:.1%}"),
        ("gold perplexity", number(result.gold_perplexity)),
        ("decoded perplexity", number(result.decoded_perplexity)),
        ("tokens decoded", str(result.tokens_decoded)),
        ("latent steps", str(result.latent_steps)),
        ("wall time", f"{result.seconds:.1f} s"),
    ]


def _data_path(given: Path | None, written: str | None, base: Path, entry: str) -> Path:
    """A path on the command line is relative to the working directory, one in the file to the file."""
    if given is not None:
        return given
    if written is None:
        raise fail(
            "E0601", "no data was named", hint=f'give --data FILE, or write `{entry} "FILE"` in the `train` block'
        )
    return base / written


# -- training ---------------------------------------------------------------------------------------------------------


def train(
    argument: Path | None,
    *,
    sets: Mapping[str, str],
    data: Path | None,
    eval_data: Path | None,
    resume: bool,
    force: bool,
    scorer: str,
    trackers: list[str],
    device: str | None,
) -> None:
    """Train an artifact: compile what is missing, train, write the weights."""
    from masc.backends.torch.build import build
    from masc.backends.torch.data import columns_of, read_rows

    path = locate(argument, Path.cwd())
    root = artifact_of(path)
    compilation = compiled(path, remembered(root, sets))
    plan = compilation.require()
    settings = _settings(plan, root, sets, resume)
    artifact = write_artifact(root, compilation, force=force)  # refuses to lose weights of another plan
    if has_weights(artifact.layout, artifact.manifest) and not (resume or force):
        raise fail("E0610", f"`{root}` holds an earlier run", hint="go on with --resume, or start over with --force")
    columns = columns_of(plan, labels=True)
    rows = read_rows(_data_path(data, settings.data, compilation.base, "data"), columns)
    eval_path = eval_data or (compilation.base / settings.eval_data if settings.eval_data else None)
    eval_rows = read_rows(eval_path, columns) if eval_path else None
    if force:
        _forget(root)
    dtype = settings.dtype or "bfloat16"
    program = build(plan, compilation.base, dtype=dtype, device=device, seed=settings.seed)
    program.compilation = compilation
    count = sum(p.numel() for p in program.trainable().values())
    batch = settings.batch * settings.accumulate
    say(f"{path}: {len(plan.agents)} agents, {count:,} trainable parameters, {len(rows)} rows")
    say(f"{settings.steps} steps of {batch} rows, {dtype} on {program.device}")
    _train(program, rows, eval_rows, settings, root, resume, force, scorer, trackers)
    if os.environ.get("RANK", "0") == "0":
        program.save(root)
        say(f"trained -> {root}")


def _settings(plan: Plan, root: Path, sets: Mapping[str, str], resume: bool) -> TrainSettings:
    """The train settings: of the run that is resumed where there is one, but for what `--set` says now."""
    from masc.backends.torch.train import resumed_settings

    before = resumed_settings(root) if resume else None
    if before is None:
        return plan.train
    names = {field.name for field in dataclasses.fields(TrainSettings)}
    return dataclasses.replace(before, **{name: getattr(plan.train, name) for name in sets if name in names})


def _train(
    program: Program,
    rows: list[dict[str, Any]],
    eval_rows: list[dict[str, Any]] | None,
    settings: TrainSettings,
    root: Path,
    resume: bool,
    force: bool,
    scorer: str,
    trackers: list[str],
) -> None:
    from masc.backends.torch.evaluate import evaluate as score
    from masc.backends.torch.train import train as run

    def evaluation(program: Program) -> dict[str, Any]:
        result, _ = score(program, eval_rows or [], scorer, batch=max(settings.batch, 16))
        found = result.json()
        say(f"evaluation: accuracy {result.accuracy:.1%}, gold perplexity {result.gold_perplexity:.4g}")
        return {f"eval_{name}": found[name] for name in ("accuracy", "gold_perplexity", "decoded_perplexity", "items")}

    with bar("loss {task.fields[loss]}", "{task.fields[speed]}") as progress:
        task = progress.add_task("train", total=settings.steps, loss="-", speed="")

        def listen(metrics: dict[str, Any]) -> None:
            speed = metrics["positions"] / max(metrics["seconds"], 1e-9)
            progress.update(
                task, completed=metrics["step"], loss=f"{metrics['loss']:.4f}", speed=f"{speed:,.0f} tokens/s"
            )

        run(
            program,
            rows,
            eval_rows,
            directory=root,
            resume=resume,
            force=force,
            listen=listen,
            evaluate=evaluation if eval_rows else None,
            trackers=trackers,
            **dataclasses.asdict(settings),
        )


def _forget(root: Path) -> None:
    """--force: the weights and checkpoints of an earlier run of the same plan go."""
    layout = Layout(root)
    for folder in (layout.adapters, layout.checkpoints):
        shutil.rmtree(folder, ignore_errors=True)
    layout.channels.unlink(missing_ok=True)
