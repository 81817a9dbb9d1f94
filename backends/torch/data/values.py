"""One value of a row as text: what prompts, labels and gold answers are made of."""

from __future__ import annotations

import decimal
import math
import numbers
import re
from collections.abc import Iterable, Mapping
from typing import Any, Self

Row = Mapping[str, Any]
"""A row of data: values by column."""


class Written(float):
    """A number with more digits than a float holds. As a number it is the nearest float, as text what was written."""

    exact: decimal.Decimal

    def __new__(cls, nearest: float, exact: decimal.Decimal) -> Self:
        number = super().__new__(cls, nearest)
        number.exact = exact
        return number

    def __reduce__(self) -> tuple[type[Written], tuple[float, decimal.Decimal]]:  # to be copied and pickled
        return Written, (float(self), self.exact)


_HALF = re.compile("[\ud800-\udfff]")


def text_of(item: Any) -> str:
    """A value as text. Text stays as it is; numbers and booleans as JSON writes them, but never with an exponent:
    0.00001, not 1e-05. NumPy's scalars are what they hold: a float32 of 0.1 is 0.1, not the float64 beside it.

    ValueError, saying what the value is ("is null, ..."), for all else.
    """
    if isinstance(item, str):
        # A str that is more, such as a member of an enumeration, is its characters.
        text = str.__str__(item)
        if not text.isascii() and _HALF.search(text):
            raise ValueError("holds half a character (a lone surrogate)")
        return text
    if type(item).__module__ == "numpy" and getattr(item, "ndim", None) == 0:
        return _of_numpy(item)
    if isinstance(item, Written):
        return text_of(item.exact)
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


def _of_numpy(item: Any) -> str:
    """A scalar of NumPy, or an array without axes. Dates are none of Python's numbers, though some become one."""
    kind = item.dtype.kind
    value = item.reshape(1)[0]  # of an array, what it holds
    if kind == "f" and math.isfinite(value):
        import numpy

        return str(numpy.format_float_positional(value, trim="0"))
    if kind == "f":
        raise ValueError(f"is {value}, which is no number")
    if kind in "biuU":
        return text_of(value.item())
    raise ValueError(f"is {_with_article(type(value).__name__)}, not text or a number")


def narrowed(row: dict[str, Any], narrow: Mapping[str, str]) -> dict[str, Any]:
    """A row whose floats in some columns were of fewer bits (narrow: NumPy's name of the type, by column): each as the
    float with the fewest digits that is the same number there (0.1, not 0.10000000149011612)."""
    if not narrow:
        return row
    import numpy

    return row | {
        name: float(numpy.format_float_positional(numpy.dtype(kind).type(row[name])))
        for name, kind in narrow.items()
        if isinstance(row[name], float) and math.isfinite(row[name])
    }


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
