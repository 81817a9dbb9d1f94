"""Writes docs/commands: a page for each command, from its help, and one that lists them. `make generated` runs it."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import typer.main

from masc.cli import app

FOLDER = Path(__file__).with_name("commands")
LIST = "README.md"
HEAD = """\
# Commands

`masc COMMAND --help` says the same as these pages. Exit codes: 0 fine, 1 the input is wrong, 2 wrong usage, 3 it failed
while running. Options that collect values (`--set`, `--column`, `--cut`, `--input`) may stand several times.

"""


def pages() -> dict[str, str]:
    """Every page, as Markdown, by the name of its file."""
    found = dict(commands())
    rows = (f"| [`{name}`]({_file(name)}) | {first_line(command)} |\n" for name, command in found.items())
    listed = HEAD + "| command | does |\n| --- | --- |\n" + "".join(rows)
    return {LIST: listed, **{_file(name): page(name, command) for name, command in found.items()}}


def commands() -> Iterator[tuple[str, Any]]:
    """Every command by what is typed, in the order in which `masc --help` lists them."""
    waiting = [("masc", typer.main.get_command(app))]
    while waiting:
        name, command = waiting.pop(0)
        inner: Mapping[str, Any] = getattr(command, "commands", {})
        if not inner:
            yield name, command
        waiting = [(f"{name} {word}", one) for word, one in inner.items() if not one.hidden] + waiting


def page(name: str, command: Any) -> str:
    context = command.context_class(command, info_name=name)
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    records = [one.get_help_record(context) for one in command.params]
    rows = "".join(f"| {cell(f'`{what}`')} | {cell(said)} |\n" for what, said in filter(None, records))
    table = f"\n| argument | means |\n| --- | --- |\n{rows}" if rows else ""
    return f"# {name}\n\n{told(command)}\n\n```\n{usage}\n```\n{table}"


def told(command: Any) -> str:
    return inspect.cleandoc(command.help or "")


def first_line(command: Any) -> str:
    return cell(" ".join(told(command).split("\n\n")[0].split()))


def cell(text: str) -> str:
    """Within a table. Brackets that the terminal's markup escapes are brackets, and two pairs of them are one, or they
    were a link."""
    plain = re.sub(r"\s+", " ", text).replace(r"\[", "[").replace("|", r"\|")
    return plain.replace("] [", "; ").replace("][", "; ")


def _file(name: str) -> str:
    return "-".join(name.split()[1:]) + ".md"


def stale() -> Iterator[tuple[Path, str | None]]:
    """The files that are not what they would be made now, with that; None: of a command that is no more."""
    made = pages()
    for name, text in made.items():
        path = FOLDER / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            yield path, text
    yield from ((path, None) for path in FOLDER.glob("*.md") if path.name not in made)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for path, text in list(stale()):
        path.unlink() if text is None else path.write_text(text, encoding="utf-8")
