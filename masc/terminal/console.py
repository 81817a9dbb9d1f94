"""What the command prints: diagnostics, progress, tables. Results go to standard output, everything else to standard
error."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from masc.dsl.diagnostics import Diagnostic
from masc.terminal.streams import print_content, wants_color

if TYPE_CHECKING:
    from rich.progress import Progress


_ELSEWHERE: ContextVar[Callable[[str], None] | None] = ContextVar("elsewhere", default=None)


def hand_on(to: Callable[[str], None]) -> None:
    """From now on this thread hands on what it has to tell, and draws no bars: it works for a command that runs in
    another process (`masc.cluster`)."""
    _ELSEWHERE.set(to)


def _first() -> bool:
    """Whether this is the first of the processes that run the command together (`torchrun`): one of them tells."""
    return os.environ.get("RANK", "0") == "0"


def report(diagnostics: Iterable[Diagnostic], form: str = "text") -> None:
    """Print diagnostics: as text to standard error, as JSON or SARIF to standard output. Where several processes run
    the command together, the first tells all, the others errors."""
    found = [one for one in diagnostics if _first() or one.severity == "error"]
    if form == "sarif":
        from masc.dsl.sarif import to_sarif
        from masc.version import __version__

        print_content(json.dumps(to_sarif(found, __version__), indent=2, ensure_ascii=False) + "\n")
        return
    from masc.dsl.render import render, to_json

    if form == "json":
        print_content(json.dumps(to_json(found), indent=2, ensure_ascii=False) + "\n")
    elif found and (elsewhere := _ELSEWHERE.get()) is not None:
        elsewhere(render(found))
    elif found:
        print(render(found, color=wants_color(sys.stderr)), file=sys.stderr)


def say(text: str) -> None:
    """Tell lines on standard error. What they name, such as a file, cannot control the terminal."""
    if not _first():
        return
    if (elsewhere := _ELSEWHERE.get()) is not None:
        elsewhere(text)
        return
    from masc.dsl.render import visible

    print("\n".join(map(visible, text.split("\n"))), file=sys.stderr, flush=True)


def bar(*extra: str) -> Progress:
    """A progress bar with time left, on standard error or below a notebook's cell; `extra` are further columns such as
    "loss {task.fields[loss]}"."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns: list[Any] = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
    columns += [TextColumn(text) for text in extra]
    columns += [TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()]
    console = Console(stderr=True)
    if console.is_jupyter:
        from masc.terminal.notebook import NotebookProgress

        return NotebookProgress(*columns)
    return Progress(*columns, console=console, disable=_ELSEWHERE.get() is not None)


@contextmanager
def counting(shown: bool | None, what: str, total: int) -> Iterator[Callable[..., None]]:
    """A bar for functions of Python's. Within it call what comes with `advance` (how much was done) or `completed` (of
    `total`), and with `now`, a text beside it. shown: whether there is a bar (None: in a notebook)."""
    from rich.console import Console

    if not (Console().is_jupyter if shown is None else shown):
        yield lambda **_: None
        return
    with bar("{task.fields[now]}") as progress:
        task = progress.add_task(what, total=total, now="")
        yield lambda **done: progress.update(task, **done)


def table(rows: list[tuple[str, str]]) -> str:
    """Two aligned columns."""
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)
