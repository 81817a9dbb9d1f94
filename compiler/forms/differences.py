"""In what two plans differ, for people."""

from __future__ import annotations

import difflib

_LINES = 3
"""How many lines in which two plans differ are told."""


def changed_lines(before: str, now: str) -> str:
    """The first lines in which two printed plans differ: `-` as it was, `+` as it is."""
    changed = [
        f"{line[0]} {' '.join(line[1:].split())}"
        for line in difflib.unified_diff(before.splitlines(), now.splitlines(), n=0, lineterm="")
        if line[0] in "-+" and line[:3] not in ("---", "+++")
    ]
    shown = [line if len(line) <= 120 else f"{line[:117]}..." for line in changed[:_LINES]]
    left = len(changed) - _LINES
    more = f" (and {left} more {'line' if left == 1 else 'lines'})" if left > 0 else ""
    return "; ".join(shown) + more
