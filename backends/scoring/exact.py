"""The strict scorer: the same text."""

from __future__ import annotations

from masc.backends.scoring.reasoning import without_reasoning


def plain(text: str) -> str:
    """Without blanks at the ends, runs of blanks, and a full stop at the end."""
    return " ".join(text.split()).removesuffix(".")


def answer_text(text: str) -> str:
    """What the strict scorer looks at: the text without reasoning, plain."""
    return plain(without_reasoning(text))


def exact(said: str, gold: str) -> bool:
    """The same text, but for reasoning blocks, blanks at the ends, runs of blanks, and a full stop at the end."""
    return answer_text(said) == (answer_text(gold) or plain(gold))
