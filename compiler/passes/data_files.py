"""Whether the rows that a `train` block names are there and have the columns that the graph reads: their first row
tells."""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from masc.compiler.files import tables
from masc.compiler.files.conversations import parts_in
from masc.compiler.files.sources import (
    RowSource,
    files_of,
    is_repository,
    is_saved,
    looks_like_hub,
    row_source,
    saved_columns,
    saved_splits,
)
from masc.compiler.ir.graph import Graph
from masc.compiler.ir.plan import Slot
from masc.compiler.language.objectives import Grpo
from masc.dsl import syntax
from masc.dsl.diagnostics import Diagnostic, did_you_mean
from masc.dsl.regular import MEND_LINK, dangling, open_regular
from masc.dsl.source import Span

_MOST = 1 << 20
"""Bytes of a file that are looked at. A first row that is longer is left to whoever reads the file."""


def data_remarks(graph: Graph, file: syntax.File, base: Path) -> list[Diagnostic]:
    """W0215 for a file that is not there (it may be made later) or a link to nothing, W0216 for a column that its first
    row lacks. Nothing is asked of the hub."""
    found: list[Diagnostic] = []
    written = _settings(file)
    for entry, name in (("data", graph.train.data), ("eval_data", graph.train.eval_data)):
        if name is None:
            continue
        source = row_source(name, base)
        if source.path is None:
            continue
        if why := _dangling(source.path):
            message = f"the file `{name}`, which `{entry}` names, cannot be read: {why}"
            found.append(Diagnostic("W0215", message, written.get(entry), hint=MEND_LINK))
        elif not _exists(source.path):
            message = f"the file `{name}`, which `{entry}` names, is not there"
            hint = f"it is looked for in `{source.path.parent}`; `masc train --{entry.replace('_', '-')}` names another"
            if looks_like_hub(name):
                hint = f"a data set of the hub is named with its split: `{name}:train`, `{name}:config/train`"
            found.append(Diagnostic("W0215", message, written.get(entry), hint=hint))
        else:
            found += missing_columns("W0216", graph, file, source, texts=entry == "data")
    return list({(d.message, d.span and d.span.start): d for d in found}.values())


def missing_columns(
    code: str,
    graph: Graph,
    file: syntax.File,
    source: RowSource,
    *,
    texts: bool = True,
    named: Mapping[str, str] | None = None,
) -> list[Diagnostic]:
    """A diagnostic for each column that the graph reads and the first row of a file lacks, where the graph names it.

    texts: what agents tell each other is supervised, too. named: the columns that go by another name in the data than
    the graph says. Nothing where the first row cannot be read here: who reads the whole file says why.
    """
    there = columns_there(source)
    if there is None:
        return []
    named = {**dict(graph.columns), **(named or {})}
    read = [(named.get(name, name), span) for name, span in _read(graph, file, texts)]
    inputs = [named.get(name, name) for name in graph.inputs]
    outputs = {name for name, _ in graph.outputs}
    answers = [named.get(column, column) for name, column in graph.labels if name in outputs]
    wanted = {column for column, _ in read}
    parts = parts_in([name for name in inputs if name in wanted], answers, there)
    found = []
    for column, span in read:
        if column not in there and column not in parts:
            shown = ", ".join(f"`{each}`" for each in there[:12]) or "none"
            hint = did_you_mean(column, there) or f"the file has {shown}{' and more' if len(there) > 12 else ''}"
            name = source.written if source.split or source.path is None else source.path.name
            message = f"`{name}` has no column `{column}`"
            if isinstance(aim := graph.train.objective, Grpo) and column in answers:
                message += f", which the reward `{aim.reward}` compares with"
            found.append(Diagnostic(code, message, span, hint=hint))
    return found


def _read(graph: Graph, file: syntax.File, texts: bool) -> Iterator[tuple[str, Span | None]]:
    """The columns that the graph reads, by its own names, each with the place that names them."""
    slots = {
        part.name for agent in graph.agents for part in (*(agent.system or ()), *agent.user) if isinstance(part, Slot)
    }
    heads = [each for each in file.declarations if isinstance(each, syntax.Graph)]
    names = {name.text: name.span for head in heads for name in (*head.inputs, *head.outputs)}
    said = {
        entry.output.text: entry.column.span
        for each in file.declarations
        if isinstance(each, syntax.Train)
        for entry in each.entries
        if isinstance(entry, syntax.Supervise)
    }
    yield from ((name, said.get(name, names.get(name))) for name in graph.inputs if name in slots)
    outputs = {name for name, _ in graph.outputs}
    for name, column in graph.labels:
        if texts or name in outputs:
            yield column, said.get(name, names.get(name))


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


def columns_there(source: RowSource) -> Sequence[str] | None:
    """The columns of the first row that a source names; None where it cannot be told without reading more."""
    path = source.path
    if path is None:
        return None
    if not path.is_dir():
        return first_columns(path)
    try:
        if is_saved(path):
            splits = saved_splits(path)
            if splits is None:
                return saved_columns(path) if source.split is None else None
            split = source.split or (splits[0] if len(splits) == 1 else None)
            return saved_columns(path / split) if split is not None and split in splits else None
        if source.config is not None or is_repository(path):
            return None
        files = files_of(path)
    except (OSError, ValueError):
        return None
    split = source.split or (next(iter(files)) if len(files) == 1 else "")
    return first_columns(files[split][0]) if split in files else None


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
