"""CSV and TSV files: their separator and their header."""

from __future__ import annotations

import csv
import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

SUFFIXES = (".csv", ".tsv")
_SIGNS = ",;\t"


def separator(text: str, name: str) -> str:
    """The separator of a table: a tab in a `.tsv` file, else the most frequent candidate in the first row. Text in
    quotes, line ends included, is part of a value."""
    if name.lower().endswith(".tsv"):
        return "\t"
    counts = dict.fromkeys(_SIGNS, 0)
    quoted = False
    for char in text.lstrip("\r\n"):
        if char == '"':
            quoted = not quoted
        elif quoted:
            continue
        elif char in "\r\n":
            break
        elif char in counts:
            counts[char] += 1
    return max(_SIGNS, key=counts.__getitem__)


def reader(text: str, name: str) -> Any:
    """The rows of a table, as `csv.reader` gives them."""
    return csv.reader(io.StringIO(text, newline=""), delimiter=separator(text, name), strict=True)


def header(text: str, name: str) -> list[str] | None:
    """The column names: the first row that is not empty. csv.Error if that cannot be read."""
    fields = next((fields for fields in reader(text, name) if fields), None)
    return None if fields is None else [each.strip() for each in fields]


_LONGEST = (1 << 31) - 1
_lock = threading.Lock()
_reading: list[int] = []
"""The limit from before, one entry for each reader that is at work."""


@contextmanager
def long_values() -> Iterator[None]:
    """Allow values of any length while the block runs. `csv` has one limit for the whole process: the first reader
    lifts it, the last one restores it."""
    with _lock:
        _reading.append(csv.field_size_limit(_LONGEST) if not _reading else _reading[0])
    try:
        yield
    finally:
        with _lock:
            before = _reading.pop()
            if not _reading:
                csv.field_size_limit(before)
