"""Which numbers each option takes: one table, read by the compiler and by everything that is called from Python.

What lies in the bounds can be computed in float32, where much smaller numbers become 0 and larger ones infinity.
"""

from __future__ import annotations

import numbers
from collections.abc import Mapping
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


def _whole(low: int, high: int) -> Bounds:
    return Bounds(low, high, whole=True)


_SEED = _whole(0, 2**63 - 1)

THINK = _whole(0, 1 << 16)
"""Latent steps."""
LORA: Mapping[str, Bounds] = {
    "rank": _whole(1, 4096),
    "alpha": Bounds(1e-6, 1e6),
    "dropout": Bounds(0.0, 0.99),
}
ANSWER: Mapping[str, Bounds] = {
    "max_tokens": _whole(1, 1_000_000),
    "temperature": Bounds(1e-6, 1e6, zero=True),
    "top_p": Bounds(1e-6, 1.0),
    "seed": _SEED,
}
TRAIN: Mapping[str, Bounds] = {
    "batch": _whole(1, 4096),
    "accumulate": _whole(1, 4096),
    "steps": _whole(1, 10**9),
    "rate": Bounds(1e-12, 1e3),
    "warmup": Bounds(0.0, 1.0),
    "clip": Bounds(1e-6, 1e9, zero=True),
    "weight_decay": Bounds(1e-12, 1e3, zero=True),
    "seed": _SEED,
    "save_every": _whole(0, 10**9),
    "keep": _whole(1, 10**6),
    "eval_every": _whole(0, 10**9),
    "max_length": _whole(0, 10**9),
}
"""The numbers of a `train` block."""
REPEAT = _whole(1, 2**63 - 1)
"""Rounds; how many edges come of them has a limit of its own."""
OPEN = _whole(0, 10**9)
"""Optimiser steps in which a channel is open."""
WIDTH = _whole(1, 1 << 16)
"""Of a fuser's hidden layer."""
LAST_LAYER = 9_999
"""The last layer that a range may name, whatever the model."""
