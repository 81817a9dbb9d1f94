"""Resolving `train`: its entries and what `--set` says of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from masc.compiler.ir.plan import TrainSettings
from masc.compiler.language.other_names import meant
from masc.compiler.language.train import TRAIN
from masc.compiler.language.values import Scope, duplicate, read_value
from masc.compiler.resolve.params import argument
from masc.dsl import syntax
from masc.dsl.diagnostics import did_you_mean

Columns = tuple[tuple[str, str], ...]
"""Pairs: a name in the graph, a column of the data."""


def resolve_train(
    scope: Scope,
    train: syntax.Train | None,
    settings: Mapping[str, str],
    outputs: Sequence[str] | None,
    telling: Sequence[str],
    inputs: Sequence[str],
) -> tuple[Columns, Columns, TrainSettings]:
    """Which column supervises which output (its own name if nothing is said) and which agent's text (none if nothing is
    said); which inputs are read from a column of another name; and the settings. A name that is an output or an agent
    and an input is the former.

    `outputs` None: the graph is not known, so names cannot be held against it. `telling`: agents with a text edge.
    """
    found: dict[str, Any] = {}
    columns: dict[str, str] = {}
    first: dict[str, syntax.Name] = {}
    for entry in train.entries if train else ():
        name = entry.output if isinstance(entry, syntax.Supervise) else entry.name
        key = f"{name.text} <-" if isinstance(entry, syntax.Supervise) else name.text
        if key in first:
            duplicate(scope, f"`{key}` in `train`", name.span, first[key].span)
            continue
        first[key] = name
        if isinstance(entry, syntax.Supervise):
            known = [*(outputs or ()), *telling, *inputs]
            if outputs is not None and name.text not in known:
                hint = did_you_mean(name.text, known)
                hint = hint or "`name <- column`: an output or input, or an agent that sends text, comes first"
                scope.complain("E0201", f"the graph has no output or input `{name.text}`", name.span, hint)
            columns[name.text] = entry.column.text
        elif name.text not in TRAIN:
            hint = meant(name.text, list(TRAIN)) or f"its entries are {', '.join(TRAIN)}"
            scope.complain("E0401", f"`train` has no entry `{name.text}`", name.span, hint)
        else:
            reader = TRAIN[name.text].reads
            if isinstance(entry.value, syntax.Call) and reader.type != "entry":
                message = f"`{name.text}` takes no options in parentheses"
                scope.complain("E0403", message, entry.value.span, f"it takes {TRAIN[name.text].choices}")
            else:
                found[name.text] = read_value(scope, reader, name.text, entry.value)
    for key, value in settings.items():
        if key in TRAIN:
            reader = TRAIN[key].reads
            found[key] = read_value(scope, reader, key, argument(key, value, reader.type))
    labels = [(output, columns.get(output, output)) for output in outputs or ()]
    labels += [(agent, columns[agent]) for agent in telling if agent in columns]
    labelled = {*(outputs or ()), *telling}
    read = tuple((name, columns[name]) for name in inputs if name in columns.keys() - labelled)
    return tuple(labels), read, TrainSettings(**{k: v for k, v in found.items() if v is not None})
