"""A text that is read, and where its characters stand in the source."""

from __future__ import annotations

from dataclasses import dataclass

from masc.dsl.source import Source, Span


@dataclass(frozen=True)
class Excerpt:
    """A whole `.mas` file, or one scalar of a YAML file.

    `offsets` says where in the source each character of the text stands (a YAML scalar may be escaped, folded or
    indented there); None: the text is the source's own.
    """

    source: Source
    text: str
    offsets: tuple[int, ...] | None = None

    def line(self, offset: int) -> str:
        """The line of the text that one of its characters is on."""
        start = self.text.rfind("\n", 0, offset) + 1
        end = self.text.find("\n", offset)
        return self.text[start : end if end >= 0 else len(self.text)]

    def span(self, start: int, end: int) -> Span:
        """The place in the source of a range of characters of the text."""
        if self.offsets is None:
            return Span(self.source, start, end)
        first = self.offsets[start]
        last = self.offsets[end - 1] + 1 if end > start else first
        return Span(self.source, first, max(first, min(last, len(self.source.text))))
