"""The `masc` command. Each command is thin: it reads its arguments, calls the library, prints.

Exit codes: 0 fine, 1 the input is wrong (diagnostics), 2 wrong usage, 3 it failed while running.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from masc.compiler.plan import Mode
from masc.console import report, say, table
from masc.dsl.diagnostics import Diagnostic, MascError, errors, fail

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Teams of language-model agents that talk in latent space: compile, train, run, draw.",
)
models = typer.Typer(no_args_is_help=True, help="Base models with a short name.")
app.add_typer(models, name="models")

File = Annotated[
    Path | None,
    typer.Argument(help="A .mas or YAML file, a folder with one, or a .masc artifact \\[default: the one here]"),
]
Sets = Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Set a param or a train entry")]
Channel = Annotated[Mode, typer.Option(help="text: every agent talks in text, as a baseline")]
Cuts = Annotated[list[str] | None, typer.Option("--cut", metavar="SENDER:RECEIVER", help="Let this edge carry nothing")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, ... \\[default: a GPU if there is one]")]
Dtype = Annotated[
    str | None, typer.Option(help="Of the frozen base: bfloat16 or float32 \\[default: bfloat16 where that is fast]")
]
Batch = Annotated[int, typer.Option(min=1, help="Rows decoded together")]


def main() -> None:
    """The entry point: turns wrong input into diagnostics and exit codes."""
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # whoever read our output, `head` for one, has seen enough
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except KeyboardInterrupt:
        say("interrupted")
        sys.exit(130)
    except Exception as error:
        if os.environ.get("MASC_TRACEBACK"):
            raise
        sys.exit(_failed(error))


def _failed(error: Exception) -> int:
    """Say what went wrong, without a traceback; returns the exit code."""
    if isinstance(error, OSError):
        where = "" if error.filename is None else f"`{error.filename}`: "
        error = fail("E0622", f"{where}{error.strerror or error}")
    elif isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        error = fail(
            "E0702",
            "there is not enough memory",
            hint="lower `batch`, or write `checkpoint agent` in the `train` block",
        )
    if isinstance(error, MascError):
        report(error.diagnostics)
        return 3 if any(d.code.startswith("E07") for d in error.diagnostics) else 1
    first = (str(error).strip() or "no message").splitlines()[0]
    say(f"masc: internal error: {type(error).__name__}: {first}")
    say("This is a bug in masc. With MASC_TRACEBACK=1 in the environment it shows where.")
    return 3


def _version(wanted: bool) -> None:
    if wanted:
        from masc import __version__

        print(f"masc {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version")
    ] = False,
) -> None:
    pass


def _require(problem: str | None, option: str) -> None:
    """A wrong value of an option is wrong usage."""
    if problem is not None:
        raise typer.BadParameter(problem, param_hint=option)


def _check_place(dtype: str | None, device: str | None) -> None:
    from masc import checks

    if dtype is not None:
        _require(checks.dtype_problem(dtype), "--dtype")
    if device is not None:
        _require(checks.device_problem(device), "--device")


def _sets(items: list[str] | None) -> dict[str, str]:
    values: dict[str, str] = {}
    for item in items or []:
        name, equals, value = item.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"`{item}` is not NAME=VALUE", param_hint="--set")
        values[name.strip()] = value.strip()
    return values


def _cuts(items: list[str] | None) -> tuple[tuple[str, str], ...]:
    pairs = []
    for item in items or []:
        sender, colon, receiver = item.partition(":")
        if not (sender and colon and receiver):
            raise typer.BadParameter(f"`{item}` is not SENDER:RECEIVER", param_hint="--cut")
        pairs.append((sender.strip(), receiver.strip()))
    return tuple(pairs)


@app.command()
def check(
    file: File = None,
    set_: Sets = None,
    form: Annotated[str, typer.Option("--format", help="text or json")] = "text",
) -> None:
    """Say what is wrong with a file, without loading a model."""
    from masc.compiler.artifact import locate
    from masc.session import compile_source_of

    if form not in {"text", "json"}:
        raise typer.BadParameter(f"unknown format `{form}`: text or json", param_hint="--format")
    diagnostics: tuple[Diagnostic, ...]
    try:
        path = locate(file, Path())
        diagnostics = compile_source_of(path, _sets(set_)).diagnostics
    except MascError as error:
        diagnostics, path = error.diagnostics, file or Path()
    report(diagnostics, form)
    if errors(diagnostics):
        raise typer.Exit(1)
    if form == "text":
        say(f"{path}: no errors")


@app.command()
def fmt(file: File = None) -> None:
    """Rewrite a file in the canonical style; comments stay."""
    from masc.compiler.artifact import atomic_write, locate
    from masc.dsl.formatter import format_file
    from masc.dsl.read import read

    path = locate(file, Path())
    if path.suffix != ".mas":
        raise fail("E0612", f"fmt rewrites .mas files, not {path.name}")
    tree, diagnostics, source = read(path)
    if tree is None or source is None or errors(diagnostics):
        raise MascError(diagnostics)
    report(diagnostics)
    text = format_file(tree)
    if text != source.text:
        atomic_write(path, text)
        say(f"{path}: formatted")
    else:
        say(f"{path}: unchanged")


@app.command("compile")
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
        print(session.emit(path, _sets(set_), emit))
        return
    folder = session.compile_to(path, out, _sets(set_), force)
    say(f"{path} -> {folder}")


@app.command()
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

    _require("it and --force exclude each other" if resume and force else None, "--resume")
    _require(checks.scorer_problem(scorer, code=False), "--scorer")
    for name in tracker or []:
        _require(checks.tracker_problem(name), "--tracker")
    _check_place(None, device)
    session.train(
        file,
        sets=_sets(set_),
        data=data,
        eval_data=eval_data,
        resume=resume,
        force=force,
        scorer=scorer,
        trackers=tracker or [],
        device=device,
    )


@app.command()
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

    row = _inputs(inputs)
    _require("not together with --data" if data is not None and row else None, "--input")
    _require("it needs --out FILE" if data is not None and out is None else None, "--data")
    _require("it needs --data FILE" if data is None and out is not None else None, "--out")
    _check_place(dtype, device)
    if out is not None:
        answers.check_out(out)
    found = session.find(file, _cuts(cut), channel)
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


def _inputs(items: list[str] | None) -> dict[str, str]:
    row: dict[str, str] = {}
    for item in items or []:
        name, equals, value = item.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"`{item}` is not NAME=TEXT", param_hint="--input")
        row[name] = value
    return row


@app.command("eval")
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
        _require(checks.task_problem(task), "--task")
    scorer = scorer or ("exact" if task is None else TASKS[task].scorer)
    _require(checks.scorer_problem(scorer, code=True), "--scorer")
    _check_place(dtype, device)
    if scorer == "code" and not allow_code_execution:
        raise fail("E0611", "the code scorer runs what the model wrote", hint="allow it with --allow-code-execution")
    for path in (out, items):
        if path is not None:
            check_file(path)
    found = session.find(file, _cuts(cut), channel)
    rows = session.eval_rows_of(found, data, scorer, output, task)[:limit]
    program = session.load_program(found, dtype=dtype, device=device)
    result, scored = session.evaluate(program, rows, scorer, output, batch, allow_code_execution)
    print(table(session.report_rows(result)))
    if out is not None:
        atomic_write(out, json.dumps(result.json(), indent=1) + "\n")
    if items is not None:
        atomic_write(items, "".join(json.dumps(asdict(item), ensure_ascii=False) + "\n" for item in scored))


@app.command()
def draw(
    file: File = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="x.svg, .png, .pdf, .mmd, .dot or .txt")] = None,
    set_: Sets = None,
) -> None:
    """Draw a graph; without -o as text on the terminal."""
    from masc.backends.diagram import draw as draw_graph
    from masc.backends.diagram import text
    from masc.compiler.artifact import locate
    from masc.session import compile_source_of

    path = locate(file, Path())
    compilation = compile_source_of(path, _sets(set_))
    if compilation.graph is None or errors(compilation.diagnostics):
        raise MascError(compilation.diagnostics)
    if out is None:
        print(text(compilation.graph))
        return
    draw_graph(compilation.graph, out)
    say(f"{path} -> {out}")


@app.command()
def explain(code: Annotated[str, typer.Argument(help="A code such as E0201")]) -> None:
    """Explain a diagnostic, with a wrong and a right example."""
    from masc.dsl.diagnostics import did_you_mean
    from masc.dsl.explain import codes
    from masc.dsl.explain import explain as find

    text = find(code.upper())
    if text is None:
        known = list(codes())
        hint = did_you_mean(code.upper(), known) or f"codes go from {min(known)} to {max(known)}"
        raise fail("E0613", f"there is no code `{code}`", hint=hint)
    print(text)


@models.command("list")
def models_list() -> None:
    """The short names, and which of them are on disk."""
    from masc.compiler.models import locate_model
    from masc.compiler.registry import REGISTRY

    for name, entry in REGISTRY.items():
        location = locate_model(name, Path.cwd())
        where = "not fetched" if location is None or location.folder is None else str(location.folder)
        print(f"{name}  {entry.licence}  {where}")


@models.command("fetch")
def models_fetch(name: Annotated[str, typer.Argument(help="A short name or a Hugging Face id")]) -> None:
    """Fetch a model, check it, convert it once."""
    from masc.backends.torch.fetch import resolve
    from masc.compiler.models import check_model

    folder = resolve(name, Path.cwd())
    if wrong := errors(check_model(name, Path.cwd())[1]):
        raise MascError(wrong)
    print(folder)
