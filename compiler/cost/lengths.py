"""How long the texts of a plan are: what its cost is worked out for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil, comb


@dataclass(frozen=True)
class Length:
    """Tokens of one turn. prompt: of all text in it, whoever wrote it; vectors that others send do not count. answer:
    of what it says, the token that ends it included; 0 where it says nothing."""

    prompt: int
    answer: int = 0


Lengths = Mapping[str, Length]
"""By activation."""


def widest(rows: Sequence[Lengths]) -> Lengths:
    """How wide the widest batch of rows is that there can be, turn by turn."""
    return _each(rows, max)


def widths(rows: Sequence[Lengths], batch: int, batches: int = 1) -> list[Lengths]:
    """How wide batches of rows are, turn by turn: prompts and answers are padded to the longest in each. `batch` times
    `batches` rows are drawn at random without putting back, and those of about equal length run together; means (1, 1:
    the mean row)."""
    drawn = batch * batches
    return [_each(rows, partial(_smallest, at=batch * (number + 1), drawn=drawn)) for number in range(batches)]


def _each(rows: Sequence[Lengths], of: Callable[[list[int]], int]) -> Lengths:
    return {
        name: Length(of([row[name].prompt for row in rows]), of([row[name].answer for row in rows])) for name in rows[0]
    }


def _smallest(found: list[int], at: int, drawn: int) -> int:
    """The expected number at a place, from 1, among so many drawn out of those found in the order of their size,
    rounded."""
    count, found = len(found), sorted(found)
    if drawn >= count:  # all of them, more than once
        return found[ceil(at * count / drawn) - 1]
    ways = comb(count, drawn)
    # The i-th smallest stands there where so many are drawn from the i before it, and the others from behind it.
    return round(sum(n * (comb(i, at - 1) * comb(count - 1 - i, drawn - at) / ways) for i, n in enumerate(found)))
