"""Places as editors count them: lines from 0, and columns in the units that editor and server agreed upon.

These are UTF-16's unless the editor wants others: an emoji is two. The rest of masc counts characters from the start
of the text.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from functools import lru_cache
from typing import Literal, NamedTuple

Encoding = Literal["utf-8", "utf-16", "utf-32"]

_LINE_END = re.compile(r"\r\n|\r|\n")


class Position(NamedTuple):
    line: int
    character: int


@lru_cache(maxsize=4)  # texts may be long, and each edit makes a new one
def _lines(text: str) -> tuple[tuple[int, int], ...]:
    """Where each line starts, and where it ends without its line end."""
    starts, ends = [0], []
    for match in _LINE_END.finditer(text):
        ends.append(match.start())
        starts.append(match.end())
    return tuple(zip(starts, [*ends, len(text)], strict=True))


def position(text: str, offset: int, encoding: Encoding = "utf-16") -> Position:
    """The place of a character offset (0 to len(text))."""
    lines = _lines(text)
    line = bisect_right(lines, (offset, len(text))) - 1
    start, end = lines[line]
    return Position(line, units(text[start : min(offset, end)], encoding))


def offset(text: str, line: int, character: int, encoding: Encoding = "utf-16") -> int:
    """The character offset of a place; one past the end of its line, or of the text, means that end."""
    lines = _lines(text)
    if line >= len(lines):
        return len(text)
    at, end = lines[line]
    while at < end and character > 0:
        character -= units(text[at], encoding)
        at += 1
    return at if character >= 0 else at - 1  # the middle of an emoji is its start


def units(text: str, encoding: Encoding) -> int:
    """How many units a text takes."""
    if encoding == "utf-32":
        return len(text)
    if encoding == "utf-16":
        return len(text) + sum(char > "\uffff" for char in text)
    return len(text.encode("utf-8", "surrogatepass"))
