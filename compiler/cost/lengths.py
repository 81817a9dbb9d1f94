"""How long the texts of a plan are: what its cost is worked out for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb


@dataclass(frozen=True)
class Length:
    """Tokens of one turn. prompt: of all text in it, whoever wrote it; vectors that others send do not count. answer:
    of what it says, the token that ends it included; 0 where it says nothing."""

    prompt: int
    answer: int = 0


Lengths = Mapping[str, Length]
"""By activation."""


def widest(rows: Sequence[Lengths], batch: int | None = None) -> Lengths:
    """How wide a batch of rows is, turn by turn: prompts and answers are padded to the longest in it.

    batch: of so many rows, drawn at random without putting back: the mean of the longest (1: the mean row). None: of
    the widest batch that there can be.
    """
    return {
        name: Length(
            _longest([row[name].prompt for row in rows], batch), _longest([row[name].answer for row in rows], batch)
        )
        for name in rows[0]
    }


def _longest(found: Sequence[int], batch: int | None) -> int:
    """The expected largest of `batch` numbers out of those found, rounded."""
    count = len(found)
    if batch is None or batch >= count:
        return max(found)
    ways = comb(count, batch)
    # The i-th smallest is the largest of a draw where the others come from the i before it.
    return round(sum(n * (comb(i, batch - 1) / ways) for i, n in enumerate(sorted(found)) if i >= batch - 1))
