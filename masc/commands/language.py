"""Commands about the language: check, explain, schema."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from masc.commands.options import File, Sets, read_sets
from masc.dsl.diagnostics import Diagnostic, MascError, errors, fail
from masc.terminal.console import report, say
from masc.terminal.streams import print_content


def check(
    file: File = None,
    set_: Sets = None,
    form: Annotated[str, typer.Option("--format", help="text, json or sarif")] = "text",
) -> None:
    """Say what is wrong with a file, without loading a model."""
    from masc.compiler.artifact import locate
    from masc.session.programs import compile_source_of

    if form not in {"text", "json", "sarif"}:
        raise typer.BadParameter(f"unknown format `{form}`: text, json or sarif", param_hint="--format")
    diagnostics: tuple[Diagnostic, ...]
    library = False
    try:
        path = locate(file, Path())
        compilation = compile_source_of(path, read_sets(set_))
        diagnostics, library = compilation.of_the_text, compilation.library
    except MascError as error:
        diagnostics, path = error.diagnostics, file or Path()
    report(diagnostics, form)
    if errors(diagnostics):
        raise typer.Exit(1)
    if form == "text":
        say(f"{path}: no errors{'; it has no graph, so others import from it' if library else ''}")


def explain(code: Annotated[str, typer.Argument(help="A code such as E0201")]) -> None:
    """Explain a diagnostic, with a wrong and a right example."""
    from masc.dsl.diagnostics import did_you_mean
    from masc.dsl.explain import codes
    from masc.dsl.explain import explain as find

    text = find(code.upper())
    if text is None:
        known = list(codes())
        errors_, warned = ([name for name in known if name.startswith(kind)] for kind in "EW")
        ranges = f"errors go from {min(errors_)} to {max(errors_)}, warnings from {min(warned)} to {max(warned)}"
        hint = did_you_mean(code.upper(), known) or ranges
        raise fail("E0613", f"there is no code `{code}`", hint=hint)
    print(text)


def schema() -> None:
    """Print the JSON Schema of the YAML form, for editors."""
    import json

    from masc.compiler.resolve.schema import schema as make

    print_content(json.dumps(make(), indent=2, ensure_ascii=False) + "\n")
