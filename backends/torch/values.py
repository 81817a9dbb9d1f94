"""One value of a row as text: what prompts, labels and gold answers are made of."""

from __future__ import annotations

import decimal
import math
import numbers
import re
from collections.abc import Iterable
from typing import Any

_HALF = re.compile("[\ud800-\udfff]")


def text_of(item: Any) -> str:
    """A value as text. Text stays as it is; numbers and booleans as JSON writes them, but never with an exponent:
    0.00001, not 1e-05. NumPy's scalars are what they hold.

    ValueError, saying what the value is ("is null, ..."), for all else.
    """
    if isinstance(item, str):
        # A str that is more, such as a member of an enumeration, is its characters.
        text = str.__str__(item)
        if not text.isascii() and _HALF.search(text):
            raise ValueError("holds half a character (a lone surrogate)")
        return text
    if type(item).__module__ == "numpy" and hasattr(item, "item") and getattr(item, "ndim", 0) == 0:
        return text_of(item.item())
    if isinstance(item, bool):
        return "true" if item else "false"
    if isinstance(item, numbers.Integral):
        return _whole(int(item))
    if isinstance(item, decimal.Decimal):
        if not item.is_finite():
            raise ValueError(f"is {item}, which is no number")
        if abs(item.adjusted()) > 1000:
            raise ValueError("is a number of thousands of digits")
        return f"{item:f}"
    if isinstance(item, numbers.Real) and isinstance(item, float):
        return _decimal(float(item))
    kind = "null" if item is None else _with_article(type(item).__name__)
    raise ValueError(f"is {kind}, not text or a number")


def _whole(number: int) -> str:
    try:
        return str(number)
    except ValueError:  # Python's limit against slow conversions
        raise ValueError("is a number of thousands of digits") from None


def _decimal(number: float) -> str:
    if not math.isfinite(number):
        raise ValueError(f"is {number}, which is no number")
    shortest = repr(number)
    if "e" not in shortest:
        return shortest
    written = f"{decimal.Decimal(shortest):f}"
    return written if "." in written else f"{written}.0"


def names_of(row: Iterable[str], most: int = 12) -> str:
    """The columns of a row, for a message."""
    names = [f"`{name if len(name) <= 40 else name[:39] + '…'}`" for name in map(str, row)]
    shown = ", ".join(names[:most]) or "none"
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"


def _with_article(name: str) -> str:
    return f"{'an' if name[:1].lower() in 'aeiou' or name == 'ndarray' else 'a'} {name}"
