"""What is the same for several answers to a row, once for each of them: of a batch of rows, that of their answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from itertools import groupby
from typing import Any, TypeVar

from torch import Tensor

T = TypeVar("T")


def repeated(value: T, times: int) -> T:
    """Each row so many times, one after the other: of a tensor [B, ...], of a list with an entry for each row, and of
    whatever a tuple or a dataclass holds; anything else is the same for all rows. Gradients of the copies add up."""
    if times == 1:
        return value
    found: Any = value
    if isinstance(value, Tensor):
        found = value.repeat_interleave(times, 0)
    elif isinstance(value, list):
        found = [one for one in value for _ in range(times)]
    elif isinstance(value, tuple):
        found = tuple(repeated(one, times) for one in value)
    elif is_dataclass(value) and not isinstance(value, type):
        held = {field.name: repeated(getattr(value, field.name), times) for field in fields(value)}
        found = replace(value, **held)
    made: T = found
    return made


def runs(rows: Sequence[object], numbers: Sequence[int]) -> list[int]:
    """How often each row stands there, one after the other: the same object, with the same number in the data."""
    known = zip(map(id, rows), numbers, strict=True)
    return [len(list(alike)) for _, alike in groupby(known)]
