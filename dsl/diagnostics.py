"""One Diagnostic type for every phase, from a missing brace to a broken line of data.

Codes are stable. The letter says how bad it is: E an error, W a warning, I for information. What each code means, with
a wrong and a right example, stands in `dsl/explain/*.md` (`masc explain E0201`).
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from heapq import nlargest

from masc.dsl.limits import FAULTS
from masc.dsl.source import Span

_LONGEST, _MOST = 100, 60
"""Of a name that is compared with others, and of how many of these: comparing takes the square of both."""


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


class Faults(list[Diagnostic]):
    """What is found wrong in a text. Where there is something wrong at every character, as in a file that is no program
    at all, the first of it is enough."""

    def append(self, diagnostic: Diagnostic) -> None:
        if len(self) < FAULTS:
            super().append(diagnostic)


class MascError(Exception):
    """Wrong input: the diagnostics say what and where. At least one of them is an error."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__("\n".join(f"{d.code}: {d.message}" for d in self.diagnostics))

    def __reduce__(self) -> tuple[type[MascError], tuple[tuple[Diagnostic, ...]]]:
        """How it comes from another process: an exception is made anew of its text, if it does not say otherwise."""
        return type(self), (self.diagnostics,)

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows: what is wrong with the input, not which line of masc found it."""
        return [line for diagnostic in self.diagnostics for line in _lines(diagnostic)]


def _lines(diagnostic: Diagnostic) -> Iterator[str]:
    """One without the text that it points at."""
    yield f"{diagnostic.severity}[{diagnostic.code}]: {diagnostic.message}"
    if (span := diagnostic.span) is not None:
        yield f"  --> {span.source.path}:{span.line}:{span.column}"
    if diagnostic.hint is not None:
        yield f"   = hint: {diagnostic.hint}"


def fail(code: str, message: str, span: Span | None = None, *, hint: str | None = None) -> MascError:
    """The error to raise for one diagnostic: `raise fail("E0601", ...)`."""
    return MascError([Diagnostic(code, message, span, hint=hint)])


def errors(diagnostics: Iterable[Diagnostic]) -> list[Diagnostic]:
    return [d for d in diagnostics if d.severity == "error"]


def did_you_mean(wrong: str, known: Collection[str]) -> str | None:
    """The hint for a misspelt name, or None where nothing known is near it. Names of a paragraph's length are none, and
    of very many only those are compared in full that begin and end most like it."""
    if len(wrong) > _LONGEST:
        return None
    names = [name for name in known if len(name) <= _LONGEST]
    if len(names) > _MOST:
        names = nlargest(_MOST, names, key=lambda name: _ends_alike(wrong, name))
    near = difflib.get_close_matches(wrong, names, n=1, cutoff=0.6)
    return f"did you mean `{near[0]}`?" if near else None


def _ends_alike(a: str, b: str) -> int:
    """How many characters two names share at the beginning and at the end: all but some of a slip in one place."""
    shortest = min(len(a), len(b))
    first = next((i for i in range(shortest) if a[i] != b[i]), shortest)
    last = next((i for i in range(shortest - first) if a[-1 - i] != b[-1 - i]), shortest - first)
    return first + last


FAR = 300
"""Most characters that are shown of another library's error message."""


def first_line(error: BaseException) -> str:
    """What another library's error says first; its kind where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
