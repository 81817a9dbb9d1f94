"""Options whose number may be left out."""

from __future__ import annotations

import re
from collections.abc import Sequence

STEPS = 3
_NUMBERS = {"--profile": str(STEPS)}


def filled(args: Sequence[str]) -> list[str]:
    """The words of a command line, with the number that such an option has where none follows it."""
    words = list(args)
    end = words.index("--") if "--" in words else len(words)
    told: list[str] = []
    for i, word in enumerate(words[:end]):
        following = words[i + 1] if i + 1 < end else ""
        told.append(word)
        if word in _NUMBERS and not re.fullmatch(r"[+-]?\d+(\.\d*)?", following):
            told.append(_NUMBERS[word])
    return told + words[end:]
