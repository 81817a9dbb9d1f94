"""`text`: what the sender says, in words."""

from __future__ import annotations

from collections.abc import Iterator

from masc.compiler.channels.declare import Between, Channel, Snippet, Style
from masc.dsl.diagnostics import Diagnostic, Label


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
    options={},
    rows=(("gradient", "none crosses text"),),
    styles={"": Style("text", "text", "solid", 2.0, 1.2, ("#b0581a", "#e69457"))},
    snippets=(Snippet("Text edge", "text", "text", "What the sender says; it needs an `answer` line"),),
)
