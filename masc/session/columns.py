"""Columns that have another name in the data than in the graph: `--column question="Question Text"`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from masc.compiler.ir.plan import Plan
from masc.dsl.diagnostics import did_you_mean, fail

Row = Mapping[str, Any]


def checked(named: Mapping[str, str], plan: Plan, labels: bool = True) -> Mapping[str, str]:
    """The names (graph's -> data's) after a check that the graph reads them. labels: it reads label columns too. E0672
    for a name that it does not read."""
    from masc.backends.torch.data.check import columns_of

    read = list(dict.fromkeys([*plan.inputs, *columns_of(plan, labels=labels)]))
    for name in named:
        if name not in read:
            hint = did_you_mean(name, read) or f"it reads {', '.join(read) or 'none'}"
            raise fail("E0672", f"the graph reads no column `{name}`, so it cannot be renamed", hint=hint)
    return named


def in_data(columns: Sequence[str], named: Mapping[str, str]) -> tuple[str, ...]:
    """The names of these columns in the data."""
    return tuple(named.get(name, name) for name in columns)


def read(path: Path, columns: Sequence[str], named: Mapping[str, str]) -> list[dict[str, Any]]:
    """The rows of a file, unchanged. Raises what `read_rows` raises if a row lacks one of the columns."""
    from masc.backends.torch.data.check import read_rows

    return read_rows(path, in_data(columns, named))


def renamed(rows: Sequence[Row], named: Mapping[str, str]) -> list[dict[str, Any]]:
    """The rows with columns named as the graph names them. A renamed column replaces one that had its new name."""
    return [{**row, **{name: row[column] for name, column in named.items() if column in row}} for row in rows]
