"""How long the texts of a plan are: what its cost is worked out for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil, exp, lgamma


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
    shares = _shares(len(rows), [batch * (number + 1) for number in range(batches)])
    return [_each(rows, partial(_mean, shares=one)) for one in shares]


def _each(rows: Sequence[Lengths], of: Callable[[list[int]], int]) -> Lengths:
    return {
        name: Length(of([row[name].prompt for row in rows]), of([row[name].answer for row in rows])) for name in rows[0]
    }


def _mean(found: list[int], shares: Sequence[float]) -> int:
    """Of numbers of which each, in the order of their size, counts so much, rounded."""
    mean = sum(n * share for n, share in zip(sorted(found), shares, strict=True))
    return round(round(mean, 6))  # halves first become halves


def _shares(count: int, places: Sequence[int]) -> list[list[float]]:
    """How likely each of so many numbers, in the order of their size, is to stand at a place among those drawn out of
    them in that order. places: from 1; the last one tells how many are drawn."""
    drawn = places[-1]
    if drawn >= count:  # all of them, more than once
        return [[float(i == ceil(place * count / drawn) - 1) for i in range(count)] for place in places]
    logs = [lgamma(n + 1) for n in range(count + 1)]

    def ways(of: int, some: int) -> float:
        return logs[of] - logs[some] - logs[of - some]

    def share(i: int, place: int) -> float:
        """`place` - 1 are drawn from the i before it, the others from behind it."""
        before, behind = place - 1, drawn - place
        if i < before or count - 1 - i < behind:
            return 0.0
        return exp(ways(i, before) + ways(count - 1 - i, behind) - ways(count, drawn))

    return [[share(i, place) for i in range(count)] for place in places]
