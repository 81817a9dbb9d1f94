"""Commands about what is written in a file: check, fmt, explain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from masc.commands.options import File, Sets, read_sets
from masc.console import report, say
from masc.dsl.diagnostics import Diagnostic, MascError, errors, fail


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
        diagnostics = compile_source_of(path, read_sets(set_)).diagnostics
    except MascError as error:
        diagnostics, path = error.diagnostics, file or Path()
    report(diagnostics, form)
    if errors(diagnostics):
        raise typer.Exit(1)
    if form == "text":
        say(f"{path}: no errors")


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
