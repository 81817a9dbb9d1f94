"""Scorers: does what was said match the gold answer?"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?|-?\.\d+")
_LETTER = re.compile(r"\(?\b([A-J])\b\)?")


def exact(said: str, gold: str) -> bool:
    """The same text, but for blanks at the ends, runs of blanks, and a full stop at the end."""
    return _plain(said) == _plain(gold)


def _plain(text: str) -> str:
    return " ".join(text.split()).removesuffix(".")


def number(said: str, gold: str) -> bool:
    """The last number in what was said equals the gold number (its last one), as numbers: 1,200 = 1200.0."""
    mine, right = last_number(said), last_number(gold)
    return mine is not None and mine == right


def last_number(text: str) -> Decimal | None:
    found = _NUMBER.findall(text)
    try:
        return Decimal(found[-1].replace(",", "")) if found else None
    except InvalidOperation:
        return None


def choice(said: str, gold: str) -> bool:
    """The option that was named is the gold one. Options are single capital letters (`B`, `(B)`), or words with a
    number (`answer3`); in what was said, the first that looks like the gold one's kind counts."""
    gold = gold.strip()
    if word := re.fullmatch(r"([A-Za-z]+)\s*(\d+)", gold):
        named = re.search(rf"\b{word[1]}\s*(\d+)\b", said, re.IGNORECASE)
        return named is not None and named[1] == word[2]
    if re.fullmatch(r"\(?[A-J]\)?\.?", gold):
        # "A" is also a word: where a letter stands after "answer" that one counts, else the first that stands alone.
        told = re.search(r"answer(?:\s+is)?\s*:?\s*\(?([A-J])\b", said, re.IGNORECASE)
        first = told or _LETTER.search(said)
        return first is not None and first[1].upper() == gold.strip("().")
    return _plain(said).lower().startswith(_plain(gold).lower())


SCORERS = {"exact": exact, "number": number, "choice": choice}
