"""Bounds of numbers. Each option's stand where it is declared (`agents.py`, `train.py`, `compiler/channels`).

What lies in the bounds can be computed in float32, where much smaller numbers become 0 and larger ones infinity.
"""

from __future__ import annotations

import numbers
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Bounds:
    """The numbers from `low` to `high`, both included; `zero`: 0 as well (it means "off"); `whole`: whole ones only."""

    low: float
    high: float
    whole: bool = False
    zero: bool = False

    @property
    def kind(self) -> str:
        return "a whole number" if self.whole else "a number"

    @property
    def takes(self) -> str:
        """What it takes, in words: limits that nobody would ever come near are left out."""
        high = f" to {_shown(self.high)}" if self.high < _MANY else ""
        if self.whole or self.zero or self.low == 0:
            return f"{self.kind} from {0 if self.zero else _shown(self.low)}{high}"
        low = "above 0" if self.low <= _TINY else f"from {_shown(self.low)}"
        return f"{self.kind} {low}" + (f", at most {_shown(self.high)}" if high and self.high < 1e3 else "")

    def fits(self, value: object) -> bool:
        """Whether a value is of the type, NumPy's numbers included. True and False are no numbers."""
        return isinstance(value, numbers.Integral if self.whole else numbers.Real) and not isinstance(value, bool)

    def plain(self, value: Any) -> Any:
        """A number as Python's own, which files can hold; all else as it is."""
        if not self.fits(value):
            return value
        return int(value) if isinstance(value, numbers.Integral) else float(value)

    def holds(self, value: float) -> bool:
        return self.low <= value <= self.high or (self.zero and value == 0)

    def limit(self, value: float) -> str:
        """What a value that is not held must be."""
        if value > self.high:
            return f"at most {_shown(self.high)}"
        return ("0, or " if self.zero else "") + f"at least {_shown(self.low)}"

    def complaint(self, name: str, value: object) -> str | None:
        """What is wrong with the value of an option, in words; None if nothing is."""
        if not self.fits(value):
            return f"`{name}` takes {self.kind}, not {value!r}"
        number = self.plain(value)
        return None if self.holds(number) else f"`{name}` is {_short(number)}: it must be {self.limit(number)}"


def _shown(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:g}"


def _short(number: float) -> str:
    try:
        text = str(number)
    except ValueError:  # Python's limit against slow conversions
        return "a number of thousands of digits"
    return text if len(text) <= 40 else f"{text[:39]}…"


def whole(low: int, high: int) -> Bounds:
    return Bounds(low, high, whole=True)


MOST = 2**63 - 1
"""Above it no whole number is read."""
SEED = whole(0, MOST)
LAST_LAYER = 9_999
"""The last layer that a range may name, whatever the model."""
_TINY = 1e-6
_MANY = 10**6
