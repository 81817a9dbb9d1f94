"""Diagnostics as text with the lines they point at, and as plain data."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

from masc.dsl.diagnostics import Diagnostic
from masc.dsl.source import Source, Span

TAB = 4
LONG = 200
"""Characters of a line that are shown: a row of data may be megabytes long."""
_END = 80
_LONG_PART = re.compile(r"""`[^`]*`|"[^"]*"|\S{200,}""")
_TURNS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""What turns a line around: behind one a terminal shows other words than the file has, and carets elsewhere."""
Painter = Callable[[str, str], str]  # a text and the name of a style to the text in colour
_COLOURS = {"error": "1;31", "warning": "1;33", "info": "1;36", "note": "1;34", "bold": "1"}


def render(diagnostics: Iterable[Diagnostic], color: bool = False) -> str:
    """Every diagnostic with its place, the source line, carets and hint; empty lines between them.

    ```
    error[E0201]: there is no agent `plannr`
      --> relay.mas:12:3
       |
    12 |   plannr -> solver : kv
       |   ^^^^^^
       = hint: did you mean `planner`?
    ```
    """
    paint = _painted if color else _plain
    return "\n".join("\n".join(_one(diagnostic, paint)) + "\n" for diagnostic in diagnostics)


def to_json(diagnostics: Iterable[Diagnostic]) -> list[dict[str, object]]:
    """Plain data for `--format json`. Lines and columns count from 1, offsets from 0, in characters."""
    return [
        {
            "code": diagnostic.code,
            "severity": diagnostic.severity,
            "message": diagnostic.message,
            **_json_place(diagnostic.span),
            "labels": [{"text": label.text, **_json_place(label.span)} for label in diagnostic.labels],
            "hint": diagnostic.hint,
        }
        for diagnostic in diagnostics
    ]


def _json_place(span: Span | None) -> dict[str, object]:
    if not span:
        return {"path": None, "start": None, "end": None}
    places = []
    for offset in (span.start, span.end):
        line, column = span.source.locate(offset)
        places.append({"line": line, "column": column, "offset": offset})
    return {"path": span.source.path, "start": places[0], "end": places[1]}


@dataclass(frozen=True)
class _Mark:
    """A span to underline: the main one with carets, a label with dashes and its text."""

    span: Span
    sign: str
    text: str
    style: str


def _one(diagnostic: Diagnostic, paint: Painter) -> Iterator[str]:
    severity = diagnostic.severity
    yield paint(f"{severity}[{diagnostic.code}]", severity) + paint(f": {visible(short(diagnostic.message))}", "bold")
    marks = [_Mark(diagnostic.span, "^", "", severity)] if diagnostic.span else []
    marks += [_Mark(label.span, "-", visible(short(label.text)), "note") for label in diagnostic.labels]
    gutter = max((len(str(mark.span.line)) for mark in marks), default=1)
    files: list[Source] = []
    for mark in marks:
        files += [mark.span.source] if mark.span.source not in files else []
    for number, source in enumerate(files):
        here = [mark for mark in marks if mark.span.source == source]
        arrow = "-->" if number == 0 and diagnostic.span else ":::"
        place = f"{source.path}:{here[0].span.line}:{here[0].span.column}"
        yield " " * gutter + paint(arrow, "note") + f" {visible(place)}"
        yield from _snippet(source, here, gutter, paint)
    if diagnostic.hint:
        yield " " * gutter + " " + paint("=", "note") + f" hint: {visible(short(diagnostic.hint))}"


def short(text: str) -> str:
    """A message for reading: of names and values that are very long, the two ends."""
    return _LONG_PART.sub(lambda part: part[0] if len(part[0]) < LONG else f"{part[0][:_END]}…{part[0][-_END:]}", text)


def _snippet(source: Source, marks: list[_Mark], gutter: int, paint: Painter) -> Iterator[str]:
    """The lines that the marks are on, in order, each with a row of signs for every mark."""
    bar = paint(" " * gutter + " |", "note")
    yield bar
    previous = None
    for number, on_line in groupby(sorted(marks, key=lambda mark: mark.span.line), key=lambda mark: mark.span.line):
        if previous is not None and number > previous + 1:
            yield paint("...", "note")
        previous = number
        here = sorted(on_line, key=lambda mark: mark.sign, reverse=True)
        line, before = _window(source.line(number), here[0].span.column - 1)
        yield f"{paint(f'{number:>{gutter}} |', 'note')} {visible(line)}".rstrip()
        for mark in here:
            start = min(len(line), max(0, mark.span.column - 1 - before))
            # What goes on over further lines is underlined to the end of the first.
            end = min(len(line), start + max(1, mark.span.end - mark.span.start))
            signs = mark.sign * max(1, _width(line[start:end]))
            yield f"{bar} {' ' * _width(line[:start])}{paint(f'{signs} {mark.text}'.rstrip(), mark.style)}"


def _window(line: str, column: int) -> tuple[str, int]:
    """What is shown of a line, and how many characters before that are not: of a long one only what is around a column
    (from 0)."""
    if len(line) <= LONG:
        return line, 0
    first = min(max(0, column - LONG // 2), len(line) - LONG)
    shown = line[first : first + LONG]
    # An ellipsis takes the place of one character, so that columns stay where they are.
    shown = shown if first == 0 else "…" + shown[1:]
    return (shown if first + LONG >= len(line) else shown[:-1] + "…"), first


def visible(text: str) -> str:
    """A line as a terminal can show it: tabs as spaces, characters that control it as `?`, one to one in width."""
    return "".join(_cell(char) for char in text)


def _cell(char: str) -> str:
    if char == "\t":
        return " " * TAB
    return "?" if char in _TURNS or unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"} else char


def _width(text: str) -> int:
    """How many columns of a terminal a text takes."""
    return sum(
        0 if unicodedata.combining(char) or (unicodedata.category(char) == "Cf" and char not in _TURNS)
        else 2 if unicodedata.east_asian_width(char) in "WF"
        else len(_cell(char))
        for char in text
    )  # fmt: skip


def _plain(text: str, style: str) -> str:
    return text


def _painted(text: str, style: str) -> str:
    return f"\x1b[{_COLOURS[style]}m{text}\x1b[0m"
