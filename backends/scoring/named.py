"""Scorers: does what was said match the gold answer?"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

# A minus after a digit, a letter or a bracket is not a sign: 5-7, GPT-4, (a)-3.
_NUMBER = re.compile(r"((?<![\w)\]])-)?\$?(\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|(?<!\d)\.\d+)")


def exact(said: str, gold: str) -> bool:
    """The same text, but for blanks at the ends, runs of blanks, and a full stop at the end."""
    return plain(said) == plain(gold)


def plain(text: str) -> str:
    return " ".join(text.split()).removesuffix(".")


def number(said: str, gold: str) -> bool:
    """The last number in what was said equals the last one of the gold answer, as numbers: 1,200 = 1200.0.

    Numbers are decimal; commas group three digits. Signs of currency and per cent are left out (50% = 50). A fraction
    or a range counts as its last number: 1/2 is 2, 5-7 is 7.
    """
    mine, right = last_number(said), last_number(gold)
    return mine is not None and mine == right


def last_number(text: str) -> Decimal | None:
    found = _NUMBER.findall(text.replace("\u2212", "-"))  # the minus sign of typesetting
    try:
        return Decimal("".join(found[-1]).replace(",", "")) if found else None
    except InvalidOperation:
        return None


# An option stands alone: not part of a word, a contraction (I'm), a compound (A-level) or an abbreviation (U.S.A.).
_ALONE = r"(?<!\w)(?<!\w[.'’-]){}(?!['’-]?\w)"
# "A" and "I" are words too: where a small word follows they are no options, unless it is one that tells of an option.
_CAPITAL = _ALONE.format(r"(?:([B-HJ])|([AI])(?!\s+(?!is\b|because\b|since\b|as\b)[a-z]))")
_CAPITAL_TOLD = _ALONE.format(r"(?:([A-HJ])|(I)(?!\s+[a-z]))")
_BRACKETED = r"\(\s*([A-Ja-j])\s*\)"
# Small ones count only before punctuation (not e.g.) or at the end of a line.
_SMALL = _ALONE.format("([a-j])") + r"(?=[*_\"']*(?:[.):,;]|\s*$))(?!\.\w)"
_TOLD = re.compile(
    rf"\b(?i:answer(?:\s+is)?[\s:*_\"'`]*(?:(?:option|choice)\s+)?)(?:{_BRACKETED}|{_CAPITAL_TOLD}|{_SMALL})",
    re.MULTILINE,
)
_NAMED = re.compile(rf"{_BRACKETED}|{_CAPITAL}|^\s*{_SMALL}", re.MULTILINE)


def choice(said: str, gold: str) -> bool:
    """The option that was named is the gold one.

    Options are single letters from A to J in either case (`B`, `(b)`), words with a number (`answer3`), or other text
    (`yes`), with which what was said must begin. Of letters and numbered words the first counts, a letter after
    "answer" before all others. The article "a" in prose is no option.
    """
    gold = plain(gold)
    if not gold:
        return not said.strip()
    if word := _NUMBERED.fullmatch(gold):
        return named_option(said, gold) == word[2]
    if letter := _LETTER.fullmatch(gold):
        return named_option(said, gold) == letter[1].upper()
    return re.match(rf"{re.escape(gold)}(?!['’-]?\w)", plain(said), re.IGNORECASE) is not None


_NUMBERED = re.compile(r"([A-Za-z]+)\s*(\d+)")
_LETTER = re.compile(r"\(?([A-Ja-j])\)?")


def named_option(said: str, gold: str) -> str | None:
    """Which option of the gold answer's kind was named: a letter, or a number after the gold answer's word; of other
    kinds the first word. None: none was."""
    gold = plain(gold)
    if word := _NUMBERED.fullmatch(gold):
        named = re.search(rf"\b{word[1]}\s*(\d+)\b", said, re.IGNORECASE)
        return None if named is None else named[1]
    if _LETTER.fullmatch(gold):
        first = _TOLD.search(said) or _NAMED.search(said)
        return None if first is None else first[first.lastindex or 0].upper()
    return next(iter(re.findall(r"\w+", said.lower())), None)


def gist_of_number(said: str, gold: str) -> str:
    found = last_number(said)
    return plain(said) if found is None else f"= {found.normalize()}"


def gist_of_choice(said: str, gold: str) -> str:
    found = named_option(said, gold)
    return plain(said) if found is None else f"= {found}"
