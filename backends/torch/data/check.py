"""Rows of data, checked before anything heavy starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from masc.backends.torch.data.conversations import ConversationError
from masc.backends.torch.data.sources import entries_of, hint_for_none
from masc.backends.torch.data.values import names_of, text_of
from masc.compiler.files.conversations import COLUMNS as CONVERSATIONS
from masc.compiler.files.conversations import PARTS
from masc.compiler.files.sources import RowSource, row_source
from masc.compiler.ir.plan import Plan, Slot
from masc.dsl.diagnostics import Diagnostic, MascError, did_you_mean, fail
from masc.dsl.source import Span

_MOST = 10
"""How many errors of one file are told."""


def columns_of(plan: Plan, labels: bool, texts: bool = True) -> tuple[str, ...]:
    """The columns that a plan reads: the inputs that its prompts use and, if `labels`, those that supervise its outputs
    and (if `texts`) what agents tell each other."""
    slots = [
        part.name for agent in plan.agents for part in (*(agent.system or ()), *agent.user) if isinstance(part, Slot)
    ]
    columns = [loss.column for loss in plan.losses if labels and (texts or loss.output in plan.outputs)]
    return tuple(dict.fromkeys([*(name for name in slots if name in plan.inputs), *columns]))


def check_output(plan: Plan, output: str) -> None:
    """E0611 for a name that is no output of the graph."""
    if output not in plan.outputs:
        hint = did_you_mean(output, plan.outputs) or f"its outputs are {', '.join(plan.outputs)}"
        raise fail("E0611", f"the graph has no output `{output}`", hint=hint)


def read_rows(
    source: RowSource | Path,
    columns: Sequence[str],
    complete: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """Rows of a source (`sources.py`): of a file JSON lines (UTF-8, blank lines are skipped), a JSON array, CSV or
    Parquet (`formats.py`).

    columns: those that every row must have, after `complete` has added to it what follows from its other columns.

    Errors, with file and line, several at once: E0601 the file cannot be read, E0602 a broken line or a format that is
    not known, E0604 a missing column (once for each), E0605 no rows, E0607 a value that is neither text nor a number,
    E0628 a conversation that `complete` refuses; E0624 to E0627 as of `entries_of`.
    """
    source = row_source(source) if isinstance(source, Path) else source
    rows: list[dict[str, Any]] = []
    wrong: list[Diagnostic] = []
    told: set[str] = set()
    for found in entries_of(source):
        if isinstance(found, MascError):
            wrong += found.diagnostics
        else:
            try:
                rows.append(found.row if complete is None else complete(found.row))
            except ConversationError as error:
                wrong.append(Diagnostic("E0628", f"{found.where} {error}", found.span, hint=error.hint))
                rows.append(found.row)
            else:
                here = [name for name in columns if name not in told]
                wrong += _column_problems(rows[-1], here, found.where, found.span)
                told |= {name for name in here if name not in rows[-1]}
        if len(wrong) >= _MOST:
            break
    if wrong:
        raise MascError(wrong[:_MOST])
    if not rows:
        raise fail("E0605", f"{source} holds no rows", hint=hint_for_none(source))
    return rows


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
            talk = next((name for name in CONVERSATIONS if name in row), None)
            parts = f"; parts of its conversation are {', '.join(f'`{talk}.{part}`' for part in PARTS)}" if talk else ""
            hint = did_you_mean(column, list(row)) or f"it has {names_of(row)}{parts}"
            wrong.append(Diagnostic("E0604", f"{where} has no column `{column}`", span, hint=hint))
            continue
        try:
            text_of(row[column])
        except ValueError as error:
            wrong.append(Diagnostic("E0607", f"column `{column}` of {where} {error}", span))
    return wrong


def answer_columns(plan: Plan) -> dict[str, tuple[str, str]]:
    """For each answer that a column supervises (by `Turn.said`: an output, or an activation that other agents read):
    the agent that gives it, and the column."""
    agents = {turn.said: turn.agent for turn in plan.answering}
    return {loss.output: (agents[loss.output], loss.column) for loss in plan.losses}
