"""A cursor over the tokens of one line of a printed plan."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeVar

from masc.compiler.ir.ranges import Layers
from masc.dsl.diagnostics import MascError, fail
from masc.dsl.source import Source, Span

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<text>"(?:[^"\\]|\\.)*")
    | (?P<arrow>->)
    | (?P<range>-?\d+\.\.-?\d+)
    | (?P<number>-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)
    | (?P<segment>[A-Za-z_]\w*\#\d+)
    | (?P<name>[A-Za-z_]\w*)
    | (?P<mark>[][(),.=+])
    )""",
    re.VERBOSE | re.ASCII,
)
T = TypeVar("T")


@dataclass(frozen=True)
class Token:
    kind: str
    text: str
    span: Span


class Line:
    """A cursor over the tokens of one line."""

    def __init__(self, source: Source, start: int, text: str) -> None:
        self.end = Span(source, start + len(text), start + len(text))
        self.tokens: list[Token] = []
        self.next = 0
        at = 0
        text = text.rstrip()
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                raise fail("E0520", "this is not part of a plan", Span(source, start + at, start + len(text)))
            kind = str(match.lastgroup)
            self.tokens.append(Token(kind, match[kind], Span(source, start + match.start(kind), start + match.end())))
            at = match.end()

    def error(self, wanted: str) -> MascError:
        token = self.peek()
        got = f"`{token.text}`" if token else "the end of the line"
        return fail("E0520", f"expected {wanted}, not {got}", token.span if token else self.end)

    def peek(self) -> Token | None:
        return self.tokens[self.next] if self.next < len(self.tokens) else None

    def take(self, *kinds: str, what: str) -> str:
        token = self.peek()
        if token is None or token.kind not in kinds:
            raise self.error(what)
        self.next += 1
        return token.text

    def has(self, text: str) -> bool:
        """Whether the next token reads so; takes it if it does. Texts in quotes never match."""
        token = self.peek()
        found = token is not None and token.text == text and token.kind != "text"
        self.next += found
        return found

    def need(self, *texts: str) -> None:
        for text in texts:
            if not self.has(text):
                raise self.error(f"`{text}`")

    def name(self) -> str:
        return self.take("name", what="a name")

    def segment(self) -> str:
        return self.take("segment", what="a segment such as `planner#1`")

    def integer(self) -> int:
        token = self.take("number", what="a whole number")
        try:
            return int(token)
        except ValueError:
            self.next -= 1
            raise self.error("a whole number") from None

    def real(self) -> float:
        return float(self.take("number", what="a number"))

    def text(self) -> str:
        try:
            return str(json.loads(self.take("text", what="a text in quotes"), strict=False))
        except ValueError:
            self.next -= 1
            raise self.error("a text in quotes (a JSON string)") from None

    def word(self, *words: str) -> str:
        token = self.peek()
        if token is None or token.text not in words:
            raise self.error(" or ".join(f"`{w}`" for w in words))
        self.next += 1
        return token.text

    def listed(self, item: Callable[[], T], close: str) -> tuple[T, ...]:
        """Items between commas up to a closing mark (an empty `close`: up to the end of the line)."""
        found: list[T] = []
        while not (self.has(close) if close else self.peek() is None):
            if found:
                self.need(",")
            found.append(item())
        return tuple(found)

    def part(self) -> Literal["all", "latents"]:
        """`.latents`, or nothing."""
        if self.has("."):
            self.need("latents")
            return "latents"
        return "all"

    def layers(self) -> Layers:
        """`layers=0..9+12..14`, or nothing."""
        if not self.has("layers"):
            return None
        self.need("=")
        found = [self._range()]
        while self.has("+"):
            found.append(self._range())
        return tuple(found)

    def _range(self) -> tuple[int, int]:
        first, last = self.take("range", what="a range of layers such as `0..9`").split("..")
        return int(first), int(last)

    def done(self) -> None:
        if self.peek() is not None:
            raise self.error("the end of the line")
