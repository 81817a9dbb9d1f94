"""JSON lines in: rows of data, checked before anything heavy starts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from masc.compiler.plan import Answer, Loss, Plan, Slot, agent_of
from masc.dsl.diagnostics import Diagnostic, MascError, did_you_mean, fail
from masc.dsl.source import Source, Span


def columns_of(plan: Plan, labels: bool) -> tuple[str, ...]:
    """The columns that a plan reads: the inputs that its prompts use and, if `labels`, those that supervise its
    outputs."""
    slots = [
        part.name for agent in plan.agents for part in (*(agent.system or ()), *agent.user) if isinstance(part, Slot)
    ]
    losses = [op.column for op in plan.operations if isinstance(op, Loss)] if labels else []
    return tuple(dict.fromkeys([*slots, *losses]))


def read_rows(path: Path, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of a JSON-lines file. Blank lines are skipped.

    Errors, with file and line, several at once: E0601 no such file, E0602 a broken line, E0604 a missing column,
    E0605 no rows, E0607 a value that is neither text nor a number.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise fail("E0602", f"{path} is not UTF-8: byte {error.start}") from None
    except OSError as error:
        raise fail("E0601", f"cannot read {path}: {error.strerror}") from None
    source = Source(str(path), text)
    rows: list[dict[str, Any]] = []
    wrong: list[Diagnostic] = []
    offset = 0
    for line in text.splitlines(keepends=True):
        span = Span(source, offset, offset + len(line.rstrip("\r\n")))
        start, offset = offset, offset + len(line)
        if line.strip():
            row = _row(line, source, start, span, columns, wrong)
            rows.extend([] if row is None else [row])
        if len(wrong) >= 10:
            break
    if wrong:
        raise MascError(wrong)
    if not rows:
        raise fail("E0605", f"{path} holds no rows", hint="each line is a JSON object, one row of data")
    return rows


def _row(
    line: str, source: Source, start: int, span: Span, columns: Sequence[str], wrong: list[Diagnostic]
) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (json.JSONDecodeError, RecursionError) as error:
        at = start + (error.pos if isinstance(error, json.JSONDecodeError) else 0)
        what = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
        at = min(at, span.end)
        wrong.append(
            Diagnostic("E0602", f"line {span.line} is not JSON: {what}", Span(source, at, min(at + 1, span.end)))
        )
        return None
    if not isinstance(row, dict):
        wrong.append(
            Diagnostic("E0602", f"line {span.line} is not a JSON object", span, hint='write {"column": "value"}')
        )
        return None
    for column in columns:
        if column not in row:
            hint = did_you_mean(column, list(row)) or f"it has {', '.join(f'`{k}`' for k in row) or 'none'}"
            wrong.append(Diagnostic("E0604", f"line {span.line} has no column `{column}`", span, hint=hint))
        elif not isinstance(row[column], str | int | float):
            kind = "null" if row[column] is None else type(row[column]).__name__
            wrong.append(
                Diagnostic("E0607", f"column `{column}` of line {span.line} is {kind}, not text or a number", span)
            )
    return row


def answer_columns(plan: Plan) -> dict[str, tuple[str, str]]:
    """output -> (the agent that gives it, the column that supervises it)."""
    agents = {op.output: agent_of(op.activation) for op in plan.operations if isinstance(op, Answer)}
    return {op.output: (agents[op.output], op.column) for op in plan.operations if isinstance(op, Loss)}
