"""Whether the files that a `train` block names are there and have the columns that the graph reads: their first row
tells."""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from masc.compiler.files import tables
from masc.compiler.ir.graph import Graph
from masc.compiler.ir.plan import Slot
from masc.dsl import syntax
from masc.dsl.diagnostics import Diagnostic, did_you_mean
from masc.dsl.regular import MEND_LINK, dangling, open_regular
from masc.dsl.source import Span

_MOST = 1 << 20
"""Bytes of a file that are looked at. A first row that is longer is left to whoever reads the file."""


def data_remarks(graph: Graph, file: syntax.File, base: Path) -> list[Diagnostic]:
    """W0215 for a file that is not there (it may be made later) or a link to nothing, W0216 for a column that its first
    row lacks."""
    found: list[Diagnostic] = []
    written = _settings(file)
    for entry, name in (("data", graph.train.data), ("eval_data", graph.train.eval_data)):
        if name is None:
            continue
        path = base / name
        if why := _dangling(path):
            message = f"the file `{name}`, which `{entry}` names, cannot be read: {why}"
            found.append(Diagnostic("W0215", message, written.get(entry), hint=MEND_LINK))
        elif not _exists(path):
            message = f"the file `{name}`, which `{entry}` names, is not there"
            hint = f"it is looked for in `{path.parent}`; `masc train --{entry.replace('_', '-')}` names another"
            found.append(Diagnostic("W0215", message, written.get(entry), hint=hint))
        else:
            texts = entry == "data"
            found += missing_columns("W0216", graph, file, path, texts=texts)
    return list({(d.message, d.span and d.span.start): d for d in found}.values())


def missing_columns(
    code: str,
    graph: Graph,
    file: syntax.File,
    path: Path,
    *,
    texts: bool = True,
    named: Mapping[str, str] | None = None,
) -> list[Diagnostic]:
    """A diagnostic for each column that the graph reads and the first row of a file lacks, where the graph names it.

    texts: what agents tell each other is supervised, too. named: the columns that go by another name in the data.
    Nothing where the first row cannot be read here: who reads the whole file says why.
    """
    there = first_columns(path)
    if there is None:
        return []
    found = []
    for name, span in _read(graph, file, texts):
        column = (named or {}).get(name, name)
        if column not in there:
            shown = ", ".join(f"`{each}`" for each in there[:12]) or "none"
            hint = did_you_mean(column, there) or f"the file has {shown}{' and more' if len(there) > 12 else ''}"
            found.append(Diagnostic(code, f"`{path.name}` has no column `{column}`", span, hint=hint))
    return found


def _read(graph: Graph, file: syntax.File, texts: bool) -> Iterator[tuple[str, Span | None]]:
    """The columns that the graph reads, each with the place that names it."""
    slots = {
        part.name for agent in graph.agents for part in (*(agent.system or ()), *agent.user) if isinstance(part, Slot)
    }
    heads = [each for each in file.declarations if isinstance(each, syntax.Graph)]
    names = {name.text: name.span for head in heads for name in (*head.inputs, *head.outputs)}
    supervised = {
        entry.output.text: entry.column.span
        for each in file.declarations
        if isinstance(each, syntax.Train)
        for entry in each.entries
        if isinstance(entry, syntax.Supervise)
    }
    yield from ((name, names.get(name)) for name in graph.inputs if name in slots)
    outputs = {name for name, _ in graph.outputs}
    for name, column in graph.labels:
        if texts or name in outputs:
            yield column, supervised.get(name, names.get(name))


def _settings(file: syntax.File) -> dict[str, Span]:
    """Where each entry of the `train` block has its value."""
    return {
        entry.name.text: entry.value.span
        for each in file.declarations
        if isinstance(each, syntax.Train)
        for entry in each.entries
        if isinstance(entry, syntax.Setting)
    }


def _dangling(path: Path) -> str | None:
    try:
        return dangling(path)
    except (OSError, ValueError):  # ValueError: no file can have such a name
        return None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def first_columns(path: Path) -> Sequence[str] | None:
    """The columns of the first row of JSON lines, of a JSON array or of CSV; None where it cannot be told."""
    try:
        with open_regular(path) as file:
            data = file.read(_MOST)
        # Strictly, but for a character that is cut at the end: what is no text is not taken for a table.
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(data)
        if "\0" in text:
            return None
        if path.suffix.lower() in tables.SUFFIXES:
            return tables.header(text, path.name)
        text = text.lstrip(" \t\r\n")
        if text.startswith("["):
            row, _ = json.JSONDecoder().raw_decode(text[1:].lstrip(" \t\r\n"))
        else:
            row = json.loads(text.partition("\n")[0])
    except (OSError, ValueError, RecursionError, csv.Error):
        return None
    return list(row) if isinstance(row, dict) else None
