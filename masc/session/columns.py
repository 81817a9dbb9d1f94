"""Columns of the data under the names that the graph has for them: `--column question="Question Text"`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from masc.compiler.ir.plan import Plan
from masc.dsl.diagnostics import did_you_mean, fail

Row = Mapping[str, Any]


def checked(named: Mapping[str, str], plan: Plan, labels: bool = True) -> Mapping[str, str]:
    """The names (graph's -> data's), held against what the graph reads. labels: what supervises is read, too. E0672 for
    a name that is never read."""
    from masc.backends.torch.data.check import columns_of

    read = list(dict.fromkeys([*plan.inputs, *columns_of(plan, labels=labels)]))
    for name in named:
        if name not in read:
            hint = did_you_mean(name, read) or f"it reads {', '.join(read) or 'none'}"
            raise fail("E0672", f"the graph reads no column `{name}`, so that it can have no other name", hint=hint)
    return named


def in_data(columns: Sequence[str], named: Mapping[str, str]) -> tuple[str, ...]:
    """What these columns are called in the data."""
    return tuple(named.get(name, name) for name in columns)


def read(path: Path, columns: Sequence[str], named: Mapping[str, str]) -> list[dict[str, Any]]:
    """The rows of a file, as they are in it; each has the columns (errors as of `read_rows`)."""
    from masc.backends.torch.data.check import read_rows

    return read_rows(path, in_data(columns, named))


def renamed(rows: Sequence[Row], named: Mapping[str, str]) -> list[dict[str, Any]]:
    """The rows as the graph reads them. A column that goes by its own name and is called like a renamed one gives
    way."""
    return [{**row, **{name: row[column] for name, column in named.items() if column in row}} for row in rows]
