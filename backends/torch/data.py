"""JSON lines in: rows of data, checked before anything heavy starts."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from masc.compiler.plan import Answer, Loss, Plan, Slot, agent_of
from masc.dsl.diagnostics import Diagnostic, MascError, did_you_mean, fail
from masc.dsl.source import Source, Span

_MOST = 10
"""How many errors of one file are told."""


def columns_of(plan: Plan, labels: bool, texts: bool = True) -> tuple[str, ...]:
    """The columns that a plan reads: the inputs that its prompts use and, if `labels`, those that supervise its outputs
    and (if `texts`) what agents tell each other."""
    slots = [
        part.name for agent in plan.agents for part in (*(agent.system or ()), *agent.user) if isinstance(part, Slot)
    ]
    losses = [op for op in plan.operations if isinstance(op, Loss) and labels]
    columns = [op.column for op in losses if texts or op.output in plan.outputs]
    return tuple(dict.fromkeys([*(name for name in slots if name in plan.inputs), *columns]))


def check_output(plan: Plan, output: str) -> None:
    """E0611 for a name that is no output of the graph."""
    if output not in plan.outputs:
        hint = did_you_mean(output, plan.outputs) or f"its outputs are {', '.join(plan.outputs)}"
        raise fail("E0611", f"the graph has no output `{output}`", hint=hint)


def read_rows(
    path: Path, columns: Sequence[str], complete: Callable[[dict[str, Any]], dict[str, Any]] | None = None
) -> list[dict[str, Any]]:
    """Rows of a JSON-lines file (UTF-8, with or without a byte order mark). Blank lines are skipped.

    columns: those that every row must have, after `complete` has added to it what follows from its other columns.

    Errors, with file and line, several at once: E0601 the file cannot be read, E0602 a broken line, E0604 a missing
    column, E0605 no rows, E0607 a value that is neither text nor a number.
    """
    source = Source(str(path), _text(path))
    rows: list[dict[str, Any]] = []
    wrong: list[Diagnostic] = []
    start = 0
    # Not splitlines: it also splits at characters that JSON allows inside a string, such as U+2028.
    for line in source.text.split("\n"):
        span = Span(source, start, start + len(line.removesuffix("\r")))
        start += len(line) + 1
        if line.strip(" \t\r"):
            row = _row(line, span, wrong)
            if row is not None:
                rows.append(row if complete is None else complete(row))
                wrong += _column_problems(rows[-1], columns, f"line {span.line}", span)
        if len(wrong) >= _MOST:
            break
    if wrong:
        raise MascError(wrong[:_MOST])
    if not rows:
        raise fail("E0605", f"{path} holds no rows", hint="each line is a JSON object, one row of data")
    return rows


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise fail("E0601", f"cannot read {path}: {error.strerror or error}") from None
    except ValueError as error:  # a null character in the path
        raise fail("E0601", f"cannot read {str(path)!r}: {error}") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise fail("E0602", f"line {line} of {path} is not UTF-8") from None


def check_columns(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], source: str) -> None:
    """E0604, E0605 and E0607, as in a file, for rows that come from elsewhere (`source`)."""
    if not rows:
        raise fail("E0605", f"{source} holds no rows")
    for number, row in enumerate(rows, start=1):
        if wrong := _column_problems(row, columns, f"row {number} of {source}", None):
            raise MascError(wrong)  # all rows are alike there: one is enough


def _column_problems(row: Mapping[str, Any], columns: Sequence[str], where: str, span: Span | None) -> list[Diagnostic]:
    wrong = []
    for column in columns:
        if column not in row:
            hint = did_you_mean(column, list(row)) or f"it has {', '.join(f'`{k}`' for k in row) or 'none'}"
            wrong.append(Diagnostic("E0604", f"{where} has no column `{column}`", span, hint=hint))
        elif not isinstance(row[column], str | int | float):
            kind = "null" if row[column] is None else type(row[column]).__name__
            what = f"column `{column}` of {where} is {kind}, not text or a number"
            wrong.append(Diagnostic("E0607", what, span))
    return wrong


def _row(line: str, span: Span, wrong: list[Diagnostic]) -> dict[str, Any] | None:
    """The row of one line, or None where it cannot be read; what is wrong with it is added to `wrong`."""
    try:
        row = json.loads(line, parse_constant=_no_constant, parse_float=_finite)
    except json.JSONDecodeError as error:
        at = min(span.start + error.pos, span.end)
        place = Span(span.source, at, min(at + 1, span.end))
        wrong.append(Diagnostic("E0602", f"line {span.line} is not JSON: {error.msg}", place))
        return None
    except RecursionError:
        wrong.append(Diagnostic("E0602", f"line {span.line} is nested too deeply", span))
        return None
    except ValueError as error:  # Python's own: "Exceeds the limit (4300 digits) ...; use sys.set_..."
        what = str(error).partition(";")[0]
        wrong.append(Diagnostic("E0602", f"line {span.line} holds a number that cannot be read: {what}", span))
        return None
    if not isinstance(row, dict):
        hint = 'write {"column": "value"}'
        wrong.append(Diagnostic("E0602", f"line {span.line} is not a JSON object", span, hint=hint))
        return None
    if broken := [name for name, item in row.items() if _broken(name) or _broken(item)]:
        # Such text can be neither tokenised nor printed.
        name = broken[0].encode(errors="backslashreplace").decode()
        what = "holds half a surrogate pair (\\ud800 to \\udfff), which is no character"
        wrong.append(Diagnostic("E0607", f"column `{name}` of line {span.line} {what}", span))
        return None
    return row


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is too large")
    return number


def _broken(item: object) -> bool:
    """Whether a value is a string that is no Unicode text: JSON can spell half a surrogate pair."""
    try:
        if isinstance(item, str):
            item.encode()
    except UnicodeEncodeError:
        return True
    return False


def answer_columns(plan: Plan) -> dict[str, tuple[str, str]]:
    """For each answer that a column supervises (by `Answer.name`: an output, or an activation that other agents read):
    the agent that gives it, and the column."""
    agents = {op.name: agent_of(op.activation) for op in plan.operations if isinstance(op, Answer)}
    return {op.output: (agents[op.output], op.column) for op in plan.operations if isinstance(op, Loss)}
