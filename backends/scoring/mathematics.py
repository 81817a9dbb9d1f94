"""Mathematical expressions, compared by the library math-verify in a process of its own.

Its parser and sympy may take for ever on what a model writes (9^9^9^9), and their own time limits are signals, which
work in the main thread only. So they run in a worker that is ended, and started anew, when it takes too long.
"""

from __future__ import annotations

import json
import re
import selectors
import subprocess
import sys
import threading
import time
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

from masc.backends.scoring.exact import plain
from masc.backends.scoring.markup import boxes, readable
from masc.backends.scoring.numbers import Number, find_numbers, number_of, same, without_remarks
from masc.backends.scoring.reasoning import turns, without_reasoning

SECONDS = 5.0
"""How long one comparison may take; what takes longer is not right."""
_START_SECONDS = 120.0
LONGEST = 2_000
"""Characters of an expression; a longer one is not right."""


def math(said: str, gold: str) -> bool:
    """The same value or expression: numbers as `number` has it (and 0.333333 for 1/3), all else by math-verify."""
    gold = gold.strip()
    if not gold:
        return not without_reasoning(said)
    if _LETTERED.search(f"\\boxed{{{gold}") is None:
        said = _LETTERED.sub(r"\\boxed{", said)
    if _PLAIN.fullmatch(gold.strip("$ ")) and isinstance(right := number_of(gold), Number):
        mine = plain_number(said)
        if mine is not None:
            return same(mine, right) or _rounded(mine.value, right.value)
    for part in turns(without_reasoning(said)):
        told = expression_of(part)
        if told is None:
            continue
        if _bare(_inside(told)) == _bare(_inside(gold)):
            return True
        if len(told) > LONGEST or len(gold) > LONGEST:
            return False
        told, gold = _in_base_ten(re.sub(r"\\(?:mathrm|text)\{\s*([ie])\s*\}", r"\1", told), gold)
        return _WORKER.same(told, gold if re.search(r"\$|\\boxed|\\\(|\\\[", gold) else f"${gold}$")
    return False


# The letter of a choice before the answer itself: \textbf{(C)}\ 12.
_LETTERED = re.compile(
    r"\\boxed\s*\{\s*\$?(?:\\(?:text|math)(?:bf|rm)?\s*\{\s*\(\s*[A-E]\s*\)\s*\}(?:\\[ ,;:!]|\\q?quad|[~:\s])*"
    r"|\(\s*[A-E]\s*\)(?:\\[ ,;:!]|\\q?quad|[~:\s])+)(?=[\w\\$(-])"
)
# Digits with or without groups of three, a simple fraction, a power of ten: a comma may mean too much else.
_PLAIN = re.compile(
    r"[-+\u2212]?\s*\\?\$?(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+|\s*/\s*\d+)?\s*\\?%?"
    r"|[-+\u2212]?\s*\\[dt]?frac\s*\{\s*-?\d+\s*\}\s*\{\s*\d+\s*\}"
)
_CUE = re.compile(
    r"(?:answer|solution|result|respuesta|réponse|antwort|答案)\s*(?:is|are|:|=|是|：|es|est|ist)*[:：]?\s*",
    re.IGNORECASE,
)


def plain_number(said: str) -> Number | None:
    """The number that an answer gives, where what it calls its answer is wholly that: None of `\\boxed{\\log_2 8}`."""
    mine = number_of(said)
    if not isinstance(mine, Number):
        return None
    for part in turns(without_reasoning(said)):
        told = expression_of(part)
        if told is not None:
            return mine if (_wholly(_inside(told)) if boxes(told) else not _PAIR.search(told)) else None
    return mine


# Two numbers, or one as some countries write it; in mathematics a careful reader cannot tell.
_PAIR = re.compile(r"^[$\s(]*[-\u2212]?\d+\s*(?:,|\{,\})\s*(?!\d{3}(?!\d))\d+[$\s).]*$")


def _wholly(inside: str) -> bool:
    """Whether an expression is one number and nothing that changes it: `x = 5 \\text{ cm}^2`, not `3 + 4`."""
    told = re.split(r"[=≈]", without_remarks(readable(inside)))[-1]
    items = find_numbers(told)
    if not items:
        return not re.search(r"[^\w\s.,-]", told)  # in words
    before, after = told[: items[0].start], told[items[0].end :]
    return (
        len(items) == 1
        and _PAIR.search(inside) is None
        and re.fullmatch(r"[\s(]*(?:[A-Za-z]{2,}[\s:]*)*", before) is not None
        and re.search(r"[\\<>≤≥≠|_!√π,;+*]", after) is None
    )


_BASE = re.compile(r"(?<![\w.])([0-9A-F]+)_(?:(\d)|\{\s*(?:\\text\{)?\s*(\d+)\s*\}?\s*\})")


def _in_base_ten(told: str, gold: str) -> tuple[str, str]:
    """Numbers with their base below (`101_2`) as they are in base ten, for the library drops the base. Where only the
    gold answer has one, the question has named it: nothing is done."""
    if _BASE.search(told) is None:
        return told, gold
    return _BASE.sub(_decimal, told), _BASE.sub(_decimal, gold)


def _decimal(found: re.Match[str]) -> str:
    try:
        return str(int(found[1], int(found[2] or found[3])))
    except ValueError:  # no digits of that base
        return found[0]


def _rounded(mine: Fraction, right: Fraction) -> bool:
    """Whether one is the other to six digits, where decimals cannot tell it exactly."""
    endless = not (_ends(mine) and _ends(right))
    return endless and abs(mine - right) <= Fraction(1, 10**6) * max(abs(right), Fraction(1, 10**6))


def _ends(value: Fraction) -> bool:
    """Whether a number has finitely many decimals."""
    below = value.denominator
    for prime in (2, 5):
        while below % prime == 0:
            below //= prime
    return below == 1


def _bare(text: str) -> str:
    return plain(readable(text.strip("$"))).replace(" ", "")


def _inside(text: str) -> str:
    found = boxes(text)
    return found[-1][2] if found else text


def expression_of(text: str) -> str | None:
    """What of a text math-verify is given: its last box; all of it where it marks its mathematics; else what follows
    the last word that announces an answer, or the last line."""
    text = re.sub(r"<answer>\s*(.*?)\s*(?:</answer>|\Z)", r"\\boxed{\1}", text, flags=re.IGNORECASE | re.DOTALL)
    if found := boxes(text):
        return f"$\\boxed{{{found[-1][2]}}}$"
    if hashes := re.findall(r"####[ \t]*(\S.*)", text):
        text = hashes[-1]
    if re.search(r"\$[^$\n]*[^\s$\d.,][^$\n]*\$|\\\(|\\\[|\$\$", text):
        return text[-LONGEST:]
    cues = list(_CUE.finditer(text))
    told = text[cues[-1].end() :] if cues else text
    lines = [line for line in told.strip().splitlines() if line.strip()]
    if not lines:
        return None
    line = (lines[0] if cues else lines[-1]).strip(" *`#>_$").rstrip(".;,")
    return f"${line}$"


class _Worker:
    """The process; one at a time asks it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def same(self, said: str, gold: str) -> bool:
        with self._lock:
            for _ in range(2):  # it may have been ended from outside since the last question
                process = self._running()
                try:
                    assert process.stdin is not None
                    process.stdin.write(json.dumps([said, gold]).encode() + b"\n")
                    process.stdin.flush()
                    break
                except OSError:
                    self._end()
            else:
                return False
            line = self._line(SECONDS)
            if line is None:
                self._end()
            return line == b"true\n"

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._end()
            file = str(Path(__file__).with_name("math_worker.py"))
            self._process = subprocess.Popen(
                [sys.executable, "-I", file],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for us
            )
            if self._line(_START_SECONDS) != b"ready\n":
                self._end()
                raise RuntimeError("math-verify cannot be started")
        return self._process

    def _line(self, seconds: float) -> bytes | None:
        """The next line of the worker, None where it does not come in time."""
        assert self._process is not None
        assert self._process.stdout is not None
        end = time.monotonic() + seconds
        found = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while not found.endswith(b"\n"):
                if not selector.select(max(0.0, end - time.monotonic())):
                    return None
                chunk = self._process.stdout.read1(65536)  # type: ignore[attr-defined]
                if not chunk:
                    return None
                found += chunk
        return found

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    with suppress(OSError):
                        stream.close()
            self._process = None


_WORKER = _Worker()
