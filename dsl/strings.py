"""Numbers, strings and prompts: from the characters that were written to the values that they stand for."""

from __future__ import annotations

import math
import os.path
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby

from masc.dsl.diagnostics import Diagnostic, Faults
from masc.dsl.excerpt import Excerpt
from masc.dsl.source import Span
from masc.dsl.syntax import Placeholder

HALF = re.compile("[\ud800-\udfff]")
"""Half of a character outside of the basic plane. Alone it is no text: no file can hold it, no tokenizer takes it."""

TRUTHS = ("true", "false")
"""Words that are values, and no names."""

Report = Callable[[Diagnostic], None]
Part = str | Placeholder

_INT = re.compile(r"-?[0-9]+")
_FLOAT = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_LONG = re.compile(r'"""(?:[^"\\]++|\\.|"(?!""))*+"""', re.DOTALL)
_SHORT = re.compile(r'"(?:[^"\\\n]++|\\[^\n])*+"')

_ESCAPES = (
    r"(?P<pair>\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    r"|(?P<code>\\u[0-9a-fA-F]{4})"
    r'|(?P<escape>\\["\\/bfnrt])'
    r"|(?P<bad>\\u?[^\n]?)"
)
_BRACES = r"(?P<brace>\{\{|\}\})|(?P<name>\{[A-Za-z_][A-Za-z0-9_]*\})|(?P<lone>\{[^{}\"\\\n]*\}?|\})"
_IN_STRING = re.compile(rf"(?P<text>[^\\]+)|{_ESCAPES}")
_IN_PROMPT = re.compile(rf"(?P<text>[^\\{{}}]+)|{_ESCAPES}|{_BRACES}")
_IN_YAML_PROMPT = re.compile(rf"(?P<text>[^{{}}]+)|{_BRACES}")
_MEANING = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def half_alone(span: Span) -> Diagnostic:
    """The complaint about half of a character, written as an escape or as it is."""
    shown = HALF.sub(lambda half: f"\\u{ord(half[0]):04x}", span.text)
    hint = "it takes two such escapes that belong together; or write the character itself"
    return Diagnostic("E0107", f"`{shown}` is half of a character", span, hint=hint)


def is_name(text: str) -> bool:
    """Whether a text is an identifier."""
    return _NAME.fullmatch(text) is not None


def number(text: str) -> int | float | None:
    """The value of an int or a float as it is written, or None if it is neither or out of range (64 bits)."""
    if _INT.fullmatch(text):
        value = int(text) if len(text) <= 24 else 2**64
        return value if abs(value) < 2**64 else None
    if _FLOAT.fullmatch(text):
        real = float(text)
        return real if math.isfinite(real) else None
    return None


def is_closed(token: str) -> bool:
    """Whether a string token ends with its quotes."""
    return (_LONG if token.startswith('"""') else _SHORT).fullmatch(token) is not None


def string(excerpt: Excerpt, start: int, end: int, report: Report) -> str:
    """The value of the string token at a range of the excerpt."""
    first, last = _content(excerpt.text, start, end)
    text = "".join(part for part in _parts(_IN_STRING, excerpt, first, last, report) if isinstance(part, str))
    return text.replace("\r\n", "\n") if excerpt.text.startswith('"""', start) else text


def prompt(excerpt: Excerpt, start: int, end: int, report: Report) -> tuple[Part, ...]:
    """The parts of the prompt that the string token at a range of the excerpt writes.

    Dedenting looks at the lines as they are written, so that an escape is always what it says; the line on which the
    quotes open has no indentation of its own. Stripping looks at the values.
    """
    first, last = _content(excerpt.text, start, end)
    return _prompt(_IN_PROMPT, excerpt, _lines(excerpt.text, first, last, hanging=True), report)


def yaml_prompt(excerpt: Excerpt, report: Report) -> tuple[Part, ...]:
    """The parts of a prompt that is a YAML scalar: YAML resolved the escapes, braces mean what they do in `.mas`."""
    return _prompt(_IN_YAML_PROMPT, excerpt, _lines(excerpt.text, 0, len(excerpt.text), hanging=False), report)


def _content(text: str, start: int, end: int) -> tuple[int, int]:
    """The range between the quotes; an unclosed string (reported already) has none at its end."""
    width = 3 if text.startswith('"""', start) else 1
    return start + width, end - width if is_closed(text[start:end]) else end


def _lines(text: str, start: int, end: int, hanging: bool) -> list[tuple[int, int]]:
    """The ranges of the lines, without the indentation that they share and without line ends."""
    ranges = []
    for line in text[start:end].split("\n"):
        ranges.append((start, start + len(line.removesuffix("\r"))))
        start += len(line) + 1
    shared = ranges[1:] if hanging else ranges
    full = [text[a:b] for a, b in shared if text[a:b].strip(" \t")]
    margin = len(os.path.commonprefix([_indentation(line) for line in full]))  # noqa: RUF071 (it is characters that we want)
    dedented = [(min(a + margin, b) if text[a:b].strip(" \t") else b, b) for a, b in shared]
    return ranges[:1] + dedented if hanging else dedented


def _indentation(line: str) -> str:
    return line[: len(line) - len(line.lstrip(" \t"))]


def _prompt(
    pattern: re.Pattern[str], excerpt: Excerpt, lines: Iterable[tuple[int, int]], report: Report
) -> tuple[Part, ...]:
    parts: list[Part] = []
    found = Faults()
    for number, (start, end) in enumerate(lines):
        parts += ["\n"] if number else []
        parts += _parts(pattern, excerpt, start, end, found.append)
    for diagnostic in _one_a_pair(found):
        report(diagnostic)
    joined: list[Part] = []
    for is_text, group in groupby(parts, key=lambda part: isinstance(part, str)):
        run = list(group)
        joined += ["".join(part for part in run if isinstance(part, str))] if is_text else run
    if joined and isinstance(joined[0], str):
        joined[0] = joined[0].lstrip()
    if joined and isinstance(joined[-1], str):
        joined[-1] = joined[-1].rstrip()
    return tuple(part for part in joined if part != "")


def _parts(pattern: re.Pattern[str], excerpt: Excerpt, start: int, end: int, report: Report) -> Iterator[Part]:
    """Text and placeholders, piece by piece; what is wrong is reported and left out."""
    for match in pattern.finditer(excerpt.text, start, end):
        piece, span = match.group(), excerpt.span(*match.span())
        match match.lastgroup:
            case "name":
                yield Placeholder(span, piece[1:-1])
            case "brace":
                yield piece[0]
            case "escape":
                yield _MEANING.get(piece[1], piece[1])
            case "code" if not 0xD800 <= int(piece[2:], 16) <= 0xDFFF:
                yield chr(int(piece[2:], 16))
            case "pair":
                yield bytes.fromhex(piece[2:6] + piece[8:]).decode("utf-16-be")
            case "code":
                report(half_alone(span))
            case "bad":
                hint = 'the escapes are \\" \\\\ \\/ \\b \\f \\n \\r \\t and \\uXXXX; write \\\\ for a backslash'
                report(Diagnostic("E0107", f"`{piece}` is no escape", span, hint=hint))
            case "lone":
                report(_lone_brace(piece, excerpt, match.start()))
            case _:
                yield piece


def _one_a_pair(found: Iterable[Diagnostic]) -> Iterator[Diagnostic]:
    """Without the closing braces of those that were complained about: `{"plan": 1}` is one mistake."""
    open_ = 0
    for diagnostic in found:
        brace = diagnostic.span.text if diagnostic.code == "E0108" and diagnostic.span else ""
        if brace == "}" and open_:
            open_ -= 1
            continue
        open_ += brace == "{"
        yield diagnostic


def _lone_brace(piece: str, excerpt: Excerpt, start: int) -> Diagnostic:
    brace = f"write `{piece[0] * 2}` for a brace"
    if len(piece) > 1 and piece.endswith("}"):
        inner = piece[1:-1].strip()
        hint = f"write `{{{inner}}}`" if is_name(inner) else f"a placeholder is `{{name}}`; {brace}"
        span = excerpt.span(start, start + len(piece))
        return Diagnostic("E0108", f"`{piece}` is not a placeholder", span, hint=hint)
    what = "`{` opens a placeholder that is not closed" if piece[0] == "{" else "`}` closes no placeholder"
    return Diagnostic("E0108", what, excerpt.span(start, start + 1), hint=brace)
