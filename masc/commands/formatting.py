"""`masc fmt`: the canonical style, and one form of the language into the other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from masc.dsl.diagnostics import MascError, errors
from masc.dsl.rewrite import Form, form_of, rewritten, written
from masc.dsl.source import Source
from masc.dsl.syntax import File
from masc.terminal.console import report, say
from masc.terminal.streams import print_content

Files = Annotated[
    list[Path] | None, typer.Argument(metavar="FILE", help="Files, or folders with one \\[default: the one here]")
]
Check = Annotated[bool, typer.Option("--check", help="Write nothing; name what would change, and exit with 1")]
Diff = Annotated[bool, typer.Option("--diff", help="Write nothing; show what would change")]
To = Annotated[Form | None, typer.Option("--to", help="Write one file in the other form, to standard output or -o")]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", metavar="FILE", help="With --to: where to, over what is there")
]


def fmt(files: Files = None, check: Check = False, diff: Diff = False, to: To = None, out: Out = None) -> None:
    """Rewrite files in the canonical style, .mas and YAML; comments stay."""
    from masc.compiler.artifact import locate

    if to is not None:
        if check or diff or len(files or ()) > 1:
            raise typer.BadParameter("it takes one file, and neither --check nor --diff", param_hint="--to")
        _convert(locate(files[0] if files else None, Path()), to, out)
        return
    if out is not None:
        raise typer.BadParameter("only with --to", param_hint="--out")
    clean, changed = True, False
    arguments: list[Path | None] = [*files] if files else [None]
    for argument in arguments:
        try:
            changed |= _format(locate(argument, Path()), check, diff)
        except MascError as error:
            report(error.diagnostics)
            clean = False
    if not clean or (check and changed):
        raise typer.Exit(1)


def _format(path: Path, check: bool, diff: bool) -> bool:
    """Whether a file is not in the style; brings it there unless it shall only be told."""
    from masc.compiler.files.writing import atomic_write

    tree, source = read_tree(path)
    text = rewritten(tree)
    changed = text.removeprefix("\ufeff") != source.text
    if diff:
        print_content("".join(_difference(source, text.removeprefix("\ufeff"))))
    if check and changed:
        (say if diff else print)(str(path))
    elif not (check or diff):
        if changed:
            atomic_write(path, text)
        say(f"{path}: {'formatted' if changed else 'unchanged'}")
    return changed


def _convert(path: Path, to: Form, out: Path | None) -> None:
    from masc.compiler.files.writing import atomic_write
    from masc.session.outputs import check_outputs

    if out is not None and (out.suffix not in (".mas", ".yaml", ".yml") or form_of(str(out)) != to):
        raise typer.BadParameter(
            f"`{out.name}` is no name for {'a .mas' if to == 'mas' else 'a YAML'} file", param_hint="-o"
        )
    if out is not None:
        check_outputs({"-o": out}, path)
    tree, _ = read_tree(path)
    if out is None:
        print_content(written(tree, to))
    else:
        atomic_write(out, rewritten(tree, to))
        say(f"{path} -> {out}")


def read_tree(path: Path) -> tuple[File, Source]:
    """The tree of a file without errors. What else there is to say about it is said."""
    from masc.dsl.read import read

    tree, diagnostics, source = read(path)
    if tree is None or source is None or errors(diagnostics):
        raise MascError(diagnostics)
    report(diagnostics)
    return tree, source


def _difference(source: Source, text: str) -> Iterator[str]:
    from difflib import unified_diff

    before, after = (re.findall(r"[^\n]*\n|[^\n]+", each) for each in (source.text, text))
    for line in unified_diff(before, after, source.path, f"{source.path} (formatted)"):
        yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"
