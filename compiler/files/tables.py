"""Tables as text (CSV): what stands between their values, and their first line. Of files that are read whole, and of
those that are only looked at."""

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
    """What stands between the values of a table: a tab in a file called `.tsv`, else what is most often in its first
    row. What stands in quotes, line ends too, is part of a value."""
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
    """What the first row that is not empty names. csv.Error where it is no row."""
    fields = next((fields for fields in reader(text, name) if fields), None)
    return None if fields is None else [each.strip() for each in fields]


_LONGEST = (1 << 31) - 1
_lock = threading.Lock()
_reading: list[int] = []
"""The limit that was there before, once for each who reads."""


@contextmanager
def long_values() -> Iterator[None]:
    """Values may be of any length meanwhile. The limit is one of the whole process: the first who reads lifts it, the
    last puts it back."""
    with _lock:
        _reading.append(csv.field_size_limit(_LONGEST) if not _reading else _reading[0])
    try:
        yield
    finally:
        with _lock:
            before = _reading.pop()
            if not _reading:
                csv.field_size_limit(before)
