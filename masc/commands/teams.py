"""Commands that make a team work: compile, train, run, eval."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from masc.commands.options import (
    Batch,
    Channel,
    Cuts,
    Device,
    Dtype,
    File,
    Sets,
    check_place,
    read_cuts,
    read_inputs,
    read_sets,
    require,
)
from masc.console import say, table
from masc.dsl.diagnostics import fail
from masc.streams import print_content


def compile_(
    file: File = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="The artifact folder \\[default: FILE.masc]")] = None,
    set_: Sets = None,
    emit: Annotated[str | None, typer.Option(help="Print ast, graph or plan instead of writing an artifact")] = None,
    force: Annotated[bool, typer.Option("--force", help="Throw trained weights of another plan away")] = False,
) -> None:
    """Compile a file to an artifact folder."""
    from masc import session
    from masc.compiler.artifact import locate

    path = locate(file, Path())
    if emit is not None:
        if emit not in {"ast", "graph", "plan"}:
            raise typer.BadParameter(f"unknown level `{emit}`: ast, graph or plan", param_hint="--emit")
        print_content(session.emit(path, read_sets(set_), emit) + "\n")
        return
    folder = session.compile_to(path, out, read_sets(set_), force)
    say(f"{path} -> {folder}")


def train(
    file: File = None,
    data: Annotated[Path | None, typer.Option(help="JSON lines to train on \\[default: the file's `data`]")] = None,
    eval_data: Annotated[Path | None, typer.Option(help="JSON lines for evaluation during training")] = None,
    set_: Sets = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint")] = False,
    force: Annotated[bool, typer.Option("--force", help="Throw earlier weights and checkpoints away")] = False,
    scorer: Annotated[str, typer.Option(help="For evaluation during training: exact, number, choice")] = "exact",
    tracker: Annotated[
        list[str] | None, typer.Option(help="Also log to tensorboard, wandb, ... (through accelerate)")
    ] = None,
    device: Device = None,
) -> None:
    """Train every agent's adapter end to end."""
    from masc import checks, session

    require("it and --force exclude each other" if resume and force else None, "--resume")
    require(checks.scorer_problem(scorer, code=False), "--scorer")
    for name in tracker or []:
        require(checks.tracker_problem(name), "--tracker")
    check_place(None, device)
    session.train(
        file,
        sets=read_sets(set_),
        data=data,
        eval_data=eval_data,
        resume=resume,
        force=force,
        scorer=scorer,
        trackers=tracker or [],
        device=device,
    )


def run(
    file: File = None,
    inputs: Annotated[
        list[str] | None, typer.Option("--input", metavar="NAME=TEXT", help="An input of the graph")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="JSON lines of inputs")] = None,
    out: Annotated[Path | None, typer.Option(help="Where the answers go, JSON lines; resumed if it is there")] = None,
    cut: Cuts = None,
    channel: Channel = "graph",
    batch: Batch = 16,
    dtype: Dtype = None,
    device: Device = None,
) -> None:
    """Run a team: stream one answer, or answer a file of rows."""
    from masc import answers, checks, session
    from masc.backends.torch.data import columns_of, read_rows

    row = read_inputs(inputs)
    require("not together with --data" if data is not None and row else None, "--input")
    require("it needs --out FILE" if data is not None and out is None else None, "--data")
    require("it needs --data FILE" if data is None and out is not None else None, "--out")
    check_place(dtype, device)
    if out is not None:
        answers.check_out(out)
    found = session.find(file, read_cuts(cut), channel)
    used = columns_of(found.plan, labels=False)
    if data is None or out is None:
        if used and not row:
            raise typer.BadParameter("give either --input NAME=TEXT (once for each input) or --data FILE")
        checks.check_inputs(row, found.plan.inputs, used)
        answers.stream(session.load_program(found, dtype=dtype, device=device), row)
        return
    rows = read_rows(data, used)
    program = session.load_program(found, dtype=dtype, device=device)
    answers.run_rows(program, rows, used, out, batch, f"{dtype} {cut} {channel}")


def eval_(
    file: File = None,
    data: Annotated[
        Path | None, typer.Option(help="JSON lines \\[default: the task's, or the file's `eval_data`]")
    ] = None,
    task: Annotated[str | None, typer.Option(help="A public data set: gsm8k, gpqa-diamond, humaneval, ...")] = None,
    scorer: Annotated[
        str | None, typer.Option(help="exact, number, choice or code \\[default: the task's, or exact]")
    ] = None,
    cut: Cuts = None,
    channel: Channel = "graph",
    output: Annotated[str | None, typer.Option(help="Which output is scored \\[default: the first]")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many rows")] = None,
    batch: Batch = 16,
    out: Annotated[Path | None, typer.Option(help="Also write the numbers as JSON")] = None,
    items: Annotated[Path | None, typer.Option(help="Also write each row's answer as JSON lines")] = None,
    allow_code_execution: Annotated[
        bool, typer.Option("--allow-code-execution", help="Run what the model wrote, for the scorer code")
    ] = False,
    dtype: Dtype = None,
    device: Device = None,
) -> None:
    """Score a team on a file of rows or on a public data set."""
    from dataclasses import asdict

    from masc import checks, session
    from masc.backends.torch.tasks import TASKS
    from masc.compiler.files import atomic_write, check_file

    if task is not None:
        require(checks.task_problem(task), "--task")
    scorer = scorer or ("exact" if task is None else TASKS[task].scorer)
    require(checks.scorer_problem(scorer, code=True), "--scorer")
    check_place(dtype, device)
    if scorer == "code" and not allow_code_execution:
        raise fail("E0611", "the code scorer runs what the model wrote", hint="allow it with --allow-code-execution")
    for path in (out, items):
        if path is not None:
            check_file(path)
    found = session.find(file, read_cuts(cut), channel)
    rows = session.eval_rows_of(found, data, scorer, output, task)[:limit]
    program = session.load_program(found, dtype=dtype, device=device)
    result, scored = session.evaluate(program, rows, scorer, output, batch, allow_code_execution)
    if out is not None:  # files first: what cannot be printed is not lost
        atomic_write(out, json.dumps(result.json(), indent=1) + "\n")
    if items is not None:
        atomic_write(items, "".join(json.dumps(asdict(item), ensure_ascii=False) + "\n" for item in scored))
    print(table(session.report_rows(result)))
