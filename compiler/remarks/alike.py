"""Of very many diagnostics with one code only the first are told: nobody reads the rest, and a mistake of the same kind
on every line of a large file would print for minutes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from masc.dsl.diagnostics import Diagnostic
from masc.dsl.limits import ALIKE


def few_alike(found: Iterable[Diagnostic]) -> list[Diagnostic]:
    """The diagnostics, of each code the first `ALIKE`; the last of these says how many more there are."""
    count: Counter[str] = Counter()
    kept: list[Diagnostic] = []
    last: dict[str, int] = {}
    for diagnostic in found:
        code = diagnostic.code
        count[code] += 1
        if count[code] <= ALIKE:
            last[code] = len(kept)
            kept.append(diagnostic)
    for code, place in last.items():
        if count[code] > ALIKE:
            more = f" (and {count[code] - ALIKE:,} more of {code} after it)"
            kept[place] = replace(kept[place], message=kept[place].message + more)
    return kept
