"""One Diagnostic type for every phase, from a missing brace to a broken line of data.

Codes are stable. The letter says how bad it is: E an error, W a warning, I for information. What each code means, with
a wrong and a right example, stands in `dsl/explain/*.md` (`masc explain E0201`).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from masc.dsl.source import Span


@dataclass(frozen=True)
class Label:
    """A second place that matters, with what it has to do with the first: "first defined here"."""

    span: Span
    text: str


@dataclass(frozen=True)
class Diagnostic:
    """What is wrong, where, and what to do about it.

    `span` is None only where there is no text to point into (a missing file, a wrong option on the command line).
    `hint` is one sentence without a full stop: "did you mean `planner`?".
    """

    code: str
    message: str
    span: Span | None = None
    labels: tuple[Label, ...] = ()
    hint: str | None = None

    @property
    def severity(self) -> str:
        return {"E": "error", "W": "warning", "I": "info"}[self.code[0]]


class MascError(Exception):
    """Wrong input: the diagnostics say what and where. At least one of them is an error."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__("\n".join(f"{d.code}: {d.message}" for d in self.diagnostics))


def fail(code: str, message: str, span: Span | None = None, *, hint: str | None = None) -> MascError:
    """The error to raise for one diagnostic: `raise fail("E0601", ...)`."""
    return MascError([Diagnostic(code, message, span, hint=hint)])


def errors(diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
    return [d for d in diagnostics if d.severity == "error"]


def did_you_mean(wrong: str, known: Sequence[str]) -> str | None:
    """The hint for a misspelt name, or None where nothing known is near it."""
    near = difflib.get_close_matches(wrong, known, n=1, cutoff=0.6)
    return f"did you mean `{near[0]}`?" if near else None
