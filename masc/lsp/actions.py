"""Quick fixes: what a diagnostic's hint says, as an edit."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from masc.dsl.diagnostics import Diagnostic
from masc.dsl.formatter import format_column, format_string
from masc.dsl.source import Span
from masc.dsl.strings import is_name
from masc.lsp.rename import Edit

_NEAR = re.compile(r"did you mean `([^`]+)`")
_BARE = re.compile(r"without the quotes: `([^`]+)`")
_WRITE = re.compile(r"write `(\{\w+\}|mas \d+)`|write (\d+)\Z")
_MISSING = re.compile(r"`(.+)` is missing before")
_CLOSE = re.compile(r'close it with `("+)`')


@dataclass(frozen=True)
class Action:
    """A fix for one diagnostic."""

    title: str
    edit: Edit
    diagnostic: Diagnostic


def actions(diagnostics: Iterable[Diagnostic], start: int, end: int) -> list[Action]:
    """The fixes for what is wrong between two offsets of the file that the diagnostics are about."""
    return [
        action
        for diagnostic in diagnostics
        if (span := diagnostic.span) is not None and span.start <= end and start <= span.end
        for action in _fixes(diagnostic, span)
        if action.edit.text != action.edit.span.text
    ]


def _fixes(diagnostic: Diagnostic, span: Span) -> Iterator[Action]:
    hint = diagnostic.hint or ""

    def action(title: str, place: Span, text: str) -> Action:
        return Action(title, Edit(place, text), diagnostic)

    if diagnostic.code == "W0216" and (match := _NEAR.search(hint)):
        if (written := _column(span, match[1])) is not None:
            yield action(f"Change to `{match[1]}`", span, written)
    elif match := _NEAR.search(hint):
        yield action(f"Change to `{match[1]}`", _inside(span, match[1]), match[1])
    elif match := _BARE.search(hint):
        yield action(f"Change to `{match[1]}`", span, match[1])
    elif diagnostic.code == "E0101" and (match := _WRITE.search(hint)):
        yield action(f"Write `{match[1]}` on the first line", Span(span.source, 0, 0), f"{match[1]}\n\n")
    elif diagnostic.code in ("E0102", "E0108", "E0109") and (match := _WRITE.search(hint)):
        right = match[1] or match[2]
        right = right.removeprefix("mas ") if diagnostic.code == "E0102" else right
        yield action(f"Change to `{right}`", span, right)
    elif diagnostic.code == "E0103" and (match := _MISSING.match(diagnostic.message)):
        mark = match[1]
        blank = "" if mark in "(,)]:" else " "
        yield action(f"Insert `{mark}`", *_before(span, f"{blank}{mark}"))
    elif diagnostic.code == "E0106" and (match := _CLOSE.match(hint)) and match[1] == '"':
        yield action('Close with `"`', Span(span.source, span.end, span.end), '"')
    elif diagnostic.code == "W0205" and (gone := _from_list(span)) is not None:
        yield action(f"Take `{span.text}` out of the import", gone, "")


def _column(span: Span, name: str) -> str | None:
    """How a column is written where another stands; None where only a name of the language can, and it is none."""
    if span.text.startswith('"'):
        return format_string(name)
    labels = span.source.text[: span.start].rstrip().endswith("<-")
    return name if is_name(name) else format_column(name) if labels else None


def _inside(span: Span, right: str) -> Span:
    """What a name that was meant takes the place of: of a text in quotes and of a placeholder what is inside, of a path
    its last part."""
    match = re.fullmatch(r'"([^"\n]*)"|\{(\w*)\}', span.text)
    if match is None:
        return span
    start, end = (span.start + at for at in match.span(match.lastindex or 0))
    folder = 0 if "/" in right else span.source.text[start:end].rfind("/") + 1
    return Span(span.source, start + folder, end)


def _before(span: Span, mark: str) -> tuple[Span, str]:
    """A mark that is missing stands behind what comes before it, not at the start of the next line."""
    text = span.source.text
    at = len(text[: span.start].rstrip())
    return Span(span.source, at, at), mark if text[at : at + 1].isspace() else f"{mark} "


def _from_list(span: Span) -> Span | None:
    """A name in `(a, b)` with the comma that goes with it; None where it is the only one."""
    text = span.source.text
    if after := re.compile(r"\s*,\s*").match(text, span.end):
        return Span(span.source, span.start, after.end())
    before = re.search(r"\s*,\s*\Z", text[: span.start])
    return Span(span.source, before.start(), span.end) if before else None
