"""Source files and spans: where in a text something stands."""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, field
from functools import cached_property


@dataclass(frozen=True)
class Source:
    """A text and the path that it is shown under. The text is what was read, as UTF-8, line ends as they were.

    `marked`: it began with a byte-order mark, which is not in the text.
    """

    path: str
    text: str = field(repr=False)
    marked: bool = False

    @cached_property
    def _starts(self) -> list[int]:
        return [0, *(found.end() for found in re.finditer("\n", self.text))]

    def locate(self, offset: int) -> tuple[int, int]:
        """Line and column, both from 1, of a character offset (0 to len(text))."""
        line = bisect_right(self._starts, offset)
        return line, offset - self._starts[line - 1] + 1

    @property
    def newline(self) -> str:
        """How most of its lines end: `\\n` or `\\r\\n`."""
        return "\r\n" if 2 * self.text.count("\r\n") > self.text.count("\n") else "\n"

    def start_of(self, number: int) -> int:
        """The offset at which a line (from 1) starts. IndexError where there is no such line."""
        return self._starts[number - 1]

    def line(self, number: int) -> str:
        """The text of a line (from 1), without its line end."""
        start = self._starts[number - 1]
        end = self._starts[number] if number < len(self._starts) else len(self.text)
        return self.text[start:end].rstrip("\r\n")


@dataclass(frozen=True)
class Span:
    """A half-open range of character offsets in a source."""

    source: Source = field(repr=False)
    start: int
    end: int

    @property
    def line(self) -> int:
        return self.source.locate(self.start)[0]

    @property
    def column(self) -> int:
        return self.source.locate(self.start)[1]

    @property
    def text(self) -> str:
        return self.source.text[self.start : self.end]

    def to(self, other: Span) -> Span:
        """The range from the start of this one to the end of the other."""
        return Span(self.source, self.start, other.end)
