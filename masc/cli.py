"""The `masc` command. Each command is thin: it reads its arguments, calls the library, prints.

Exit codes: 0 fine, 1 the input is wrong (diagnostics), 2 wrong usage, 3 it failed while running.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from masc.commands import (
    comparison,
    cost,
    formatting,
    init,
    inside,
    language,
    lsp,
    models,
    pictures,
    running,
    serving,
    sharing,
    teams,
)
from masc.commands.once import let_once
from masc.dsl.diagnostics import fail
from masc.terminal import streams
from masc.terminal.console import report, say
from masc.terminal.foreign import translated

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Teams of language-model agents that talk in latent space: compile, train, run, draw.",
)
base_models = typer.Typer(no_args_is_help=True, help="Base models: fetch one, find out whether masc can use it.")

app.command()(init.init)
app.add_typer(init.new, name="new")
app.command()(language.check)
app.command()(formatting.fmt)
app.command("compile")(teams.compile_)
app.command()(cost.cost)
app.command()(teams.train)
app.command()(teams.prune)
app.command()(running.run)
app.command("eval")(running.eval_)
app.command()(serving.serve)
app.command()(comparison.compare)
app.command()(comparison.audit)
app.command()(inside.inspect)
app.command()(pictures.draw)
app.command()(teams.export)
app.command()(sharing.push)
app.command()(sharing.pull)
app.command()(language.explain)
app.command()(language.schema)
app.command()(lsp.lsp)
app.add_typer(base_models, name="models")
base_models.command("list")(models.models_list)
base_models.command("fetch")(models.models_fetch)
base_models.command("convert")(models.models_convert)
base_models.command("prove")(models.models_prove)
let_once(app, init.new, base_models)


def main() -> None:
    """The entry point: turns wrong input into diagnostics and exit codes."""
    streams.prepare()
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except streams.OutputError as error:
        streams.give_up_output()
        if error.gone:
            sys.exit(141)  # as a program that the signal SIGPIPE ended
        sys.exit(_failed(fail("E0790", f"cannot write to standard output: {error}")))
    except KeyboardInterrupt:
        say("interrupted")
        sys.exit(130)
    except Exception as error:
        if os.environ.get("MASC_TRACEBACK"):
            raise
        sys.exit(_failed(error))


def _failed(error: Exception) -> int:
    """Say what went wrong, without a traceback; returns the exit code."""
    told = translated(error)
    if told is not None:
        report(told.diagnostics)
        return 3 if any(d.code.startswith("E07") for d in told.diagnostics) else 1
    first = (str(error).strip() or "no message").splitlines()[0]
    say(f"masc: internal error: {type(error).__name__}: {first}")
    say("This is a bug in masc. With MASC_TRACEBACK=1 in the environment it shows where.")
    return 3


def _version(wanted: bool) -> None:
    if wanted:
        from masc.version import __version__

        print(f"masc {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version")
    ] = False,
) -> None:
    pass
