"""Commands that ask whether a team's channel matters: compare, audit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from masc.commands.options import (
    FORMATS,
    AllowCode,
    Batch,
    Checkpoint,
    Columns,
    Device,
    Dtype,
    File,
    MaxTokens,
    Ray,
    Sandbox,
    Seed,
    Temperature,
    TopP,
    Tracker,
    Weights,
    Workers,
    check_place,
    read_columns,
    read_decoding,
    read_place,
    read_sets,
    require,
)
from masc.compiler.language.scorers import scorer_names
from masc.terminal.console import say


def compare(
    file: File = None,
    train: Annotated[
        str | None, typer.Option(help=f"Rows to train on: {FORMATS} \\[default: the file's `data`]")
    ] = None,
    test: Annotated[
        str | None, typer.Option(help=f"Rows to score: {FORMATS} \\[default: the file's `eval_data`]")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE[,VALUE...]", help="A param or a train entry; several: a sweep"),
    ] = None,
    rows: Annotated[
        str | None, typer.Option(help="Names of rows, with commas between \\[default: all that say something]")
    ] = None,
    column: Columns = None,
    seeds: Annotated[str, typer.Option(help="Seeds of training, with commas between")] = "0",
    scorer: Annotated[str, typer.Option(help=scorer_names())] = "exact",
    output: Annotated[str | None, typer.Option(help="Which output is scored \\[default: the first]")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many test rows")] = None,
    samples: Annotated[int, typer.Option(min=0, help="Sampled answers for the agreement; 0: none")] = 5,
    sampled: Annotated[int, typer.Option(min=1, help="Of how many test rows answers are sampled")] = 40,
    temperature: Temperature = None,
    top_p: TopP = None,
    max_tokens: MaxTokens = None,
    batch: Batch = 16,
    plot: Annotated[str, typer.Option(help="What is drawn: accuracy, or accuracy against cost (cost)")] = "accuracy",
    out: Annotated[Path | None, typer.Option("-o", "--out", help="The folder \\[default: FILE.compare]")] = None,
    allow_code_execution: AllowCode = False,
    sandbox: Sandbox = "auto",
    dtype: Dtype = None,
    device: Device = None,
    ray: Ray = None,
    workers: Workers = None,
) -> None:
    """Hold a team against single agents, text agents and its own ablations, on the same rows."""
    from masc.backends.scoring.registry import scorer_of
    from masc.compiler.artifact import artifact_of, locate
    from masc.session import checks
    from masc.session.outputs import check_table_folder
    from masc.session.programs import accepted, compile_source_of

    values = {name: _several(text) for name, text in read_sets(set_).items()}
    sets = {name: found[0] for name, found in values.items() if len(found) == 1}
    sweep = {name: found for name, found in values.items() if len(found) > 1}
    names = None if rows is None else [name.strip() for name in rows.split(",")]
    require(_repeated(names or []), "--rows")
    require(None if samples != 1 else "one sample agrees with nothing: 0, or at least 2", "--samples")
    require(checks.scorer_problem(scorer, code=True), "--scorer")
    require(None if plot in ("accuracy", "cost") else f"`{plot}` is neither accuracy nor cost", "--plot")
    numbers = [part.strip() for part in seeds.split(",")]
    wrong = next((part for part in numbers if not part.isdecimal() or int(part) >= 2**63), None)
    require(None if wrong is None else f"`{wrong}` is not a whole number", "--seeds")
    require(_repeated([str(int(part)) for part in numbers]), "--seeds")
    decoding, place = read_decoding(temperature, top_p, max_tokens, None), read_place(ray, workers)
    check_place(dtype, device, place)
    scorer_of(scorer, allow_code_execution=allow_code_execution, sandbox=sandbox)

    from masc.cluster import work
    from masc.studies import comparison, comparison_runs, provenance
    from masc.studies.comparison_report import lines_of, text_table, write_report

    comparison_runs.check_rows(names or [])
    path = locate(file, Path())
    folder = out or artifact_of(path).with_suffix(".compare")
    check_table_folder(folder, path)
    first = accepted(compile_source_of(path, {**sets, **{name: found[0] for name, found in sweep.items()}}))
    options: dict[str, Any] = {"batch": batch, "samples": samples, "sampled": sampled, "dtype": dtype, "device": device}
    options |= {"allow_code_execution": allow_code_execution, "sandbox": sandbox, "decoding": decoding}
    named = read_columns(column)
    task = comparison_runs.task_of(first, train, test, scorer, output, limit, names, named, **options)
    if same := comparison_runs.leaked(task):
        say(f"warning: {same} of {len(task.test_rows)} test rows are training rows as well")
    if names is None and (hidden := comparison_runs.hidden_inputs(first, task.output)):
        say(
            f"note: only other agents read {', '.join(hidden)}, so that a single agent must guess; what one could do "
            "that reads everything is the row pooled-tuned"
        )
    chosen = [int(part) for part in numbers]
    doing = None if place is None else work.runs_on(place)
    results = comparison.compare(path, folder, task, rows=names, seeds=chosen, sets=sets, sweep=sweep, doing=doing)
    lines = lines_of(results)
    read = {"train": comparison_runs.source_of(first, train, "data") if task.train_rows else None}
    read["test"] = comparison_runs.source_of(first, test, "eval_data")
    about = provenance.of_comparison(path, first, task, seeds=chosen, sets=sets, sweep=sweep, named=named, **read)
    drawn: Literal["accuracy", "cost"] = "cost" if plot == "cost" else "accuracy"
    # Files first: what cannot be printed is not lost.
    files = write_report(lines, folder, f"{first.require().name}: {len(task.test_rows)} test rows", about, drawn)
    print(text_table(lines))
    for written in files:
        say(f"-> {written}")


def _repeated(names: list[str]) -> str | None:
    twice = next((name for i, name in enumerate(names) if name in names[:i]), None)
    return None if twice is None else f"`{twice}` is named twice"


def _several(text: str) -> list[str]:
    r"""The values of a sweep, each once: what stands between commas (`\,` is a comma)."""
    parts = (part.replace("\0", ",").strip() for part in text.replace("\\,", "\0").split(","))
    return list(dict.fromkeys(parts))


def audit(
    file: File = None,
    data: Annotated[str | None, typer.Option(help=f"Rows: {FORMATS} \\[default: the file's `eval_data`]")] = None,
    scorer: Annotated[str, typer.Option(help=scorer_names(code=False))] = "exact",
    output: Annotated[str | None, typer.Option(help="Whose answers count \\[default: all outputs together]")] = None,
    limit: Annotated[int | None, typer.Option(min=2, help="Only the first so many rows")] = None,
    column: Columns = None,
    watched: Annotated[int, typer.Option(min=1, help="Rows of which attention and gradients are taken")] = 16,
    batch: Annotated[int, typer.Option(min=2, help="Rows decoded together; they exchange what they send")] = 16,
    temperature: Temperature = None,
    top_p: TopP = None,
    max_tokens: MaxTokens = None,
    seed: Seed = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Also write it as JSON, for `masc draw`")] = None,
    tracker: Tracker = None,
    checkpoint: Checkpoint = None,
    weights: Weights = None,
    dtype: Dtype = None,
    device: Device = None,
) -> None:
    """Say what each edge of a trained team carries."""
    from masc.backends.torch.probing.found import text_table
    from masc.compiler.analysis.decoding import decodings_json
    from masc.compiler.artifact import atomic_write, locate
    from masc.session import checks, outputs
    from masc.session import programs as session
    from masc.studies import auditing, provenance

    require(checks.scorer_problem(scorer, code=False), "--scorer")
    for name in tracker or []:
        require(checks.tracker_problem(name), "--tracker")
    decoding = read_decoding(temperature, top_p, max_tokens, seed)
    check_place(dtype, device)
    outputs.check_outputs({"-o": out}, locate(file, Path()), {"--data": data})
    found = session.find(file, checkpoint=checkpoint, weights=weights)
    named = read_columns(column)
    rows = session.eval_rows_of(found, data, scorer, None, named=named)[:limit]
    auditing.audited(found)
    program = session.load_program(found, dtype=dtype, device=device)
    options: dict[str, Any] = {"batch": batch, "watched": watched, "output": output, "decoding": decoding}
    result = auditing.audit_of(found, program, rows, scorer, **options, tick=say)
    if out is not None:  # before anything is printed: what cannot be printed is not lost
        where = provenance.of_data(rows, None, session.eval_source(found, data), named)
        about = provenance.of(found, program, data=where, batch=batch) | {"scorer": scorer, "output": output}
        about["decoding"] = decodings_json(program.plan, decoding)
        atomic_write(out, auditing.to_json(result, about))
    print(text_table(result))
    if tracker:
        auditing.track(result, found, program, tracker, {"rows": len(rows), "scorer": scorer, "output": output})
    if out is not None:
        say(f"-> {out}")
