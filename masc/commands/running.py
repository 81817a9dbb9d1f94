"""Commands that use a team: run, eval."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from masc.commands.options import (
    FORMATS,
    AllowCode,
    Batch,
    Channel,
    Checkpoint,
    Columns,
    Cuts,
    Device,
    Dtype,
    EngineOption,
    File,
    MaxTokens,
    Ray,
    Sandbox,
    Seed,
    Sets,
    Temperature,
    TopP,
    Tracker,
    Weights,
    Workers,
    check_place,
    read_columns,
    read_cuts,
    read_decoding,
    read_inputs,
    read_place,
    read_sets,
    require,
)
from masc.compiler.language.scorers import scorer_names
from masc.terminal.console import table


def run(
    file: File = None,
    inputs: Annotated[
        list[str] | None, typer.Option("--input", metavar="NAME=TEXT", help="An input of the graph")
    ] = None,
    data: Annotated[str | None, typer.Option(help=f"Rows of inputs: {FORMATS}")] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Where the answers go, JSON lines; a run that was stopped goes on from NAME.partial"),
    ] = None,
    column: Columns = None,
    temperature: Temperature = None,
    top_p: TopP = None,
    max_tokens: MaxTokens = None,
    seed: Seed = None,
    set_: Sets = None,
    cut: Cuts = None,
    channel: Channel = "graph",
    checkpoint: Checkpoint = None,
    weights: Weights = None,
    show: Annotated[
        Literal["prompts"] | None, typer.Option(help="prompts: what each agent reads and says, turn by turn")
    ] = None,
    batch: Batch = 16,
    engine: EngineOption = "fast",
    dtype: Dtype = None,
    device: Device = None,
    ray: Ray = None,
    workers: Workers = None,
) -> None:
    """Run a team: stream one answer, or answer a file of rows."""
    from masc.backends.torch.data.check import columns_of
    from masc.cluster import work
    from masc.compiler.artifact import locate
    from masc.compiler.files.sources import row_source
    from masc.session import answers, checks, columns, outputs
    from masc.session import programs as session

    row, named = read_inputs(inputs), read_columns(column)
    require("not together with --data" if data is not None and row else None, "--input")
    require("it needs --out FILE" if data is not None and out is None else None, "--data")
    require("it needs --data FILE" if data is None and out is not None else None, "--out")
    require("it needs --data FILE" if data is None and named else None, "--column")
    require("it shows one row, that of --input" if data is not None and show else None, "--show")
    require("it needs --data FILE" if data is None and ray is not None else None, "--ray")
    decoding, place = read_decoding(temperature, top_p, max_tokens, seed), read_place(ray, workers)
    check_place(dtype, device, place)
    if out is not None:
        answers.check_out(out)
        partial = answers.partial_of(out)
        outputs.check_outputs({"--out": out, f"{partial.name}": partial}, locate(file, Path()), {"--data": data})
    found = session.find(file, read_cuts(cut), channel, read_sets(set_), checkpoint, weights, entries=())
    used = columns_of(found.plan, labels=False)
    if data is None or out is None:
        if used and not row:
            raise typer.BadParameter("give either --input NAME=TEXT (once for each input) or --data FILE")
        checks.check_inputs(row, found.plan.inputs, used)
        program = session.load_program(found, dtype=dtype, device=device)
        if show is None:
            answers.stream(program, row, decoding, engine)
        else:
            answers.show(program, row, decoding)
        return
    rows, read = columns.read_both(row_source(data), columns.reading(found.plan, named, labels=False))
    with work.answering(found, place, dtype=dtype, device=device) as team:
        answers.run_rows(team, rows, read, out, batch, decoding, engine)


def eval_(
    file: File = None,
    data: Annotated[
        str | None, typer.Option(help=f"Rows to score: {FORMATS} \\[default: the task's, or the file's `eval_data`]")
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(help="A public data set: gsm8k, gpqa-diamond, ..., or any task of lm-evaluation-harness"),
    ] = None,
    fewshot: Annotated[
        int | None, typer.Option(min=0, help="Examples before each question, in tasks of lm-evaluation-harness")
    ] = None,
    scorer: Annotated[str | None, typer.Option(help=f"{scorer_names()} \\[default: the task's, or exact]")] = None,
    output: Annotated[str | None, typer.Option(help="Which output is scored \\[default: the first]")] = None,
    repeat: Annotated[int, typer.Option(min=1, help="Sampled answers to each row: avg@k, pass@k, majority")] = 1,
    temperature: Temperature = None,
    top_p: TopP = None,
    max_tokens: MaxTokens = None,
    seed: Seed = None,
    column: Columns = None,
    set_: Sets = None,
    cut: Cuts = None,
    channel: Channel = "graph",
    checkpoint: Checkpoint = None,
    weights: Weights = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many rows")] = None,
    batch: Batch = 16,
    out: Annotated[Path | None, typer.Option(help="Also write the numbers as JSON, with where they come from")] = None,
    items: Annotated[Path | None, typer.Option(help="Also write each answer as JSON lines")] = None,
    tracker: Tracker = None,
    allow_code_execution: AllowCode = False,
    sandbox: Sandbox = "auto",
    engine: EngineOption = "fast",
    dtype: Dtype = None,
    device: Device = None,
    ray: Ray = None,
    workers: Workers = None,
) -> None:
    """Score a team on a file of rows or on a public data set."""
    from dataclasses import asdict

    from masc.backends.scoring.registry import scorer_of
    from masc.backends.torch.evaluation.answering import Here
    from masc.backends.torch.evaluation.evaluate import check_repeat
    from masc.backends.torch.evaluation.report import report_rows
    from masc.backends.torch.evaluation.tasks import TASKS
    from masc.cluster import work
    from masc.compiler.artifact import atomic_write, locate
    from masc.harness import tasks as harness
    from masc.session import checks, outputs
    from masc.session import programs as session
    from masc.studies import provenance, tracking

    for name in tracker or []:
        require(checks.tracker_problem(name), "--tracker")
    told = {"task": task, "channel": channel, "cut": cut, "set": set_, "limit": limit}
    if task is not None and harness.is_foreign(task, list(TASKS)):
        given = {"--data": data, "--scorer": scorer, "--column": column, "--temperature": temperature, "--top-p": top_p}
        given |= {"--max-tokens": max_tokens, "--seed": seed, "--repeat": None if repeat == 1 else repeat}
        require(f"not with --task {task}: lm-evaluation-harness works in one process" if ray else None, "--ray")
        for option, value in given.items():
            why = f"a task of lm-evaluation-harness decides it: not with --task {task}"
            require(why if value is not None and value != [] else None, option)
        check_place(dtype, device)
        harness.check_task(task, list(TASKS))
        outputs.check_outputs({"--out": out, "--items": items}, locate(file, Path()), sets=read_sets(set_))
        found = session.find(file, read_cuts(cut), channel, read_sets(set_), checkpoint, weights)
        program = session.load_program(found, dtype=dtype, device=device)
        results = harness.run_task(
            program, task, batch=batch, limit=limit, fewshot=fewshot, output=output, engine=engine
        )
        if out is not None:
            about = provenance.of(found, program, data={"task": task}, batch=batch)
            atomic_write(out, harness.to_json(results, about))
        if items is not None:
            atomic_write(items, harness.samples_text(results))
        print(table(harness.rows_of(results)))
        if tracker:
            tracking.track(found, program, tracker, tracking.numbers_of_harness(results), (), told)
        return
    require("it needs a --task of lm-evaluation-harness" if fewshot is not None else None, "--fewshot")
    scorer = scorer or ("exact" if task is None else TASKS[task].scorer)
    require(checks.scorer_problem(scorer, code=True), "--scorer")
    decoding, place = read_decoding(temperature, top_p, max_tokens, seed), read_place(ray, workers)
    check_place(dtype, device, place)
    scorer_of(scorer, allow_code_execution=allow_code_execution, sandbox=sandbox)
    outputs.check_outputs({"--out": out, "--items": items}, locate(file, Path()), {"--data": data}, read_sets(set_))
    found = session.find(file, read_cuts(cut), channel, read_sets(set_), checkpoint, weights)
    check_repeat(found.plan, repeat, decoding)
    named = read_columns(column)
    rows = session.eval_rows_of(found, data, scorer, output, task, named)[:limit]
    with work.answering(found, place, dtype=dtype, device=device) as team:
        result, scored = session.evaluate(
            team, rows, scorer, output, batch, allow_code_execution, sandbox, repeat, decoding, engine
        )
    if out is not None:  # files first: what cannot be printed is not lost
        where = provenance.of_data(rows, task, session.eval_source(found, data, task), named)
        about = provenance.of(found, team, data=where, batch=batch)
        atomic_write(out, json.dumps({**result.json(), "run": about}, indent=1, ensure_ascii=False) + "\n")
    if items is not None:
        atomic_write(items, "".join(json.dumps(asdict(item), ensure_ascii=False) + "\n" for item in scored))
    print(table(report_rows(result)))
    if tracker:
        told |= {"scorer": scorer, "output": result.output, "repeat": repeat}
        own = team.program if isinstance(team, Here) else None
        tracking.track(found, own, tracker, tracking.numbers_of(result), scored, told)
