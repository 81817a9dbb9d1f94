"""Rows as Python hands them over: lists of dicts, and what else holds rows."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from masc.backends.torch.data.values import Row, narrowed


def rows_of(given: Any, what: str) -> list[Row]:
    """Rows as a list of mappings: of any iterable of them (a generator is used up), a data frame (pandas, polars), or a
    data set of `datasets`. TypeError where it holds something else; `what` is its name."""
    if isinstance(given, Mapping):
        raise TypeError(f"`{what}` is a list of dicts, not one mapping: give [row], or one split of a data set")
    if isinstance(given, str | bytes | os.PathLike):
        raise TypeError(f"`{what}` is a text or a path, not rows: read the file first, a dict from each line")
    narrow = narrow_columns(given)
    if callable(as_dicts := getattr(given, "to_dicts", None)):  # polars
        given = as_dicts()
    elif callable(as_dict := getattr(given, "to_dict", None)) and hasattr(given, "columns"):  # pandas
        if twice := [name for name in given.columns if list(given.columns).count(name) > 1]:
            raise TypeError(f"`{what}` has the column `{twice[0]}` twice")
        given = as_dict("records")
    if not isinstance(given, Iterable):
        raise TypeError(f"`{what}` is {type(given).__name__}, not rows")
    rows = list(given)
    for i, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise TypeError(f"row {i + 1} of `{what}` is {type(row).__name__}, not a dict")
    return [narrowed(dict(row), narrow) for row in rows] if narrow else rows


def narrow_columns(given: Any) -> dict[str, str]:
    """The columns of a data frame or data set whose numbers have 32 or 16 bits, and the type: the rows will hold
    Python's floats, which do not tell."""
    tables = (getattr(given, name, None) for name in ("dtypes", "schema", "features"))
    kinds: Any = next((each for each in tables if hasattr(each, "items")), {})
    named = {name: str(getattr(kind, "dtype", kind)).lower() for name, kind in kinds.items()}
    return {name: kind for name, kind in named.items() if kind in ("float32", "float16")}
