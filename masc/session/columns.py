"""Rows of the data as a graph reads them: columns under other names (`question <- "Question Text"` in the file,
`--column question="Question Text"`), and parts of conversations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from masc.compiler.files.sources import RowSource
from masc.compiler.ir.plan import Plan
from masc.dsl.diagnostics import did_you_mean, fail

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Reading:
    """What a graph reads of rows, by the names that they have in the data. named: what has another name there, by the
    graph's; inputs: of the prompts; answers: of the outputs; columns: all that a row must have."""

    named: Mapping[str, str]
    inputs: tuple[str, ...]
    answers: tuple[str, ...]
    columns: tuple[str, ...]

    def in_data(self, row: dict[str, Any]) -> dict[str, Any]:
        """A row, and the parts of its conversation."""
        from masc.backends.torch.data.conversations import unfolded

        return unfolded(row, self.inputs, self.answers)

    def of_graph(self, row: Row) -> dict[str, Any]:
        """A row of `in_data` as the graph reads it. A column that goes by its own name and is called like a renamed one
        gives way."""
        return {**row, **{name: row[column] for name, column in self.named.items() if column in row}}


def reading(plan: Plan, named: Mapping[str, str] | None = None, *, labels: bool, texts: bool = True) -> Reading:
    """What a plan reads of the data. named: what the command line calls differently, by the graph's names; it counts
    before what the file says. labels: what supervises outputs is read; texts: what agents tell each other, too. E0672
    for a name that is never read."""
    from masc.backends.torch.data.check import columns_of

    read = columns_of(plan, labels=labels, texts=texts)
    known = list(dict.fromkeys([*plan.inputs, *columns_of(plan, labels=labels)]))
    for name in named or {}:
        if name not in known:
            hint = did_you_mean(name, known) or f"it reads {', '.join(known) or 'none'}"
            raise fail("E0672", f"the graph reads no column `{name}`, so it cannot be renamed", hint=hint)
    named = {**dict(plan.columns), **(named or {})}
    outputs = [loss.column for loss in plan.losses if loss.output in plan.outputs] if labels else []

    def written(names: Sequence[str]) -> tuple[str, ...]:
        return tuple(named.get(name, name) for name in names)

    prompts = [name for name in read if name in plan.inputs]
    return Reading(named, written(prompts), written(outputs), written(read))


def read(source: RowSource, asked: Reading) -> list[dict[str, Any]]:
    """The rows of a source, as the graph reads them (errors as of `read_rows`)."""
    return read_both(source, asked)[1]


def read_both(
    source: RowSource, asked: Reading, complete: Callable[[dict[str, Any]], dict[str, Any]] | None = None
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows of a source as they are in it, and as the graph reads them. complete: what adds to a row what follows
    from its other columns."""
    from masc.backends.torch.data.check import read_rows

    written = []

    def whole(row: dict[str, Any]) -> dict[str, Any]:
        written.append(row)
        return asked.in_data(row if complete is None else complete(row))

    found = read_rows(source, asked.columns, whole)
    return written, [asked.of_graph(row) for row in found]
