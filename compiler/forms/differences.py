"""In what two plans differ, for people."""

from __future__ import annotations

import difflib

_LINES = 3
"""How many lines in which two plans differ are told."""


def changed_lines(before: str, now: str) -> str:
    """The first lines in which two printed plans differ: `-` as it was, `+` as it is, each with the agent or turn that
    it is about."""
    changed = [
        f"{line[0]} {line[1:]}"
        for line in difflib.unified_diff(_named(before), _named(now), n=0, lineterm="")
        if line[0] in "-+" and line[:3] not in ("---", "+++")
    ]
    shown = [line if len(line) <= 120 else f"{line[:117]}..." for line in changed[:_LINES]]
    left = len(changed) - _LINES
    more = f" (and {left} more {'line' if left == 1 else 'lines'})" if left > 0 else ""
    return "; ".join(shown) + more


def _named(text: str) -> list[str]:
    """The lines of a printed plan: `agent solver: user "..."`, where the line says what it is of further up."""
    found: list[str] = []
    head = ""
    for line in text.splitlines():
        words = line.split()
        if line.startswith("    "):
            found.append(f"{head}: {' '.join(words)}")
        else:
            head = " ".join(words[:2])
            found.append(" ".join(words))
    return found
