"""`text`: what the sender says, in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

from masc.compiler.channels.declare import Between, Channel, Snippet, Style
from masc.compiler.ir.arrival import Arrival
from masc.compiler.ir.graph import Edge, Graph
from masc.compiler.ir.lines import Line
from masc.dsl.diagnostics import Diagnostic, Label


@dataclass(frozen=True)
class Read(Arrival):
    """A receiver's prompt holds, at `{sender}` or before the user's text, what an earlier turn said. cut: nothing
    instead."""

    kind = "text"
    word = "reads"
    keeps = "text"
    holds = True

    cut: bool = False

    @classmethod
    def parse(cls, line: Line) -> Self:
        return cls(line.segment(), line.has("cut"))

    @property
    def text(self) -> str:
        return f"{self.segment} cut" if self.cut else self.segment

    @property
    def told(self) -> str:
        return "nothing: cut" if self.cut else "its text"

    @property
    def seen(self) -> str:
        return f"the words of `{self.segment}`"


def _brings(edge: Edge, graph: Graph, cut: bool) -> Read:
    return Read(edge.sender, cut)


def _check(between: Between) -> Iterator[Diagnostic]:
    sender = between.sender
    if sender.answer is None:
        message = f"`{sender.name}` sends text, but it has no `answer` line"
        label = Label(sender.span, f"`{sender.name}` is declared here")
        hint = f"add `answer (max_tokens = 128)` to `{sender.name}`"
        yield Diagnostic("E0324", message, between.edge.span, (label,), hint)


CHANNEL = Channel(
    kind="text",
    help="The sender's words, at `{sender}` in the receiver's prompt. No gradient crosses.",
    crosses="what the sender says, at `{sender}` or before the user's text; no gradient",
    also="message messages string msg words tokens str chat natural_language",
    in_prompt=True,
    words=True,
    check=_check,
    arrival=Read,
    brings=_brings,
    options={},
    rows=(("gradient", "none crosses text"),),
    styles={"": Style("text", "text", "solid", 2.0, 1.2, ("#b0581a", "#e69457"))},
    snippets=(Snippet("Text edge", "text", "text", "What the sender says; it needs an `answer` line"),),
)
