"""Views (and traces) of one receiver: which of them say nothing that others do not."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TypeVar

from masc.compiler.ir.plan import TraceOf, View
from masc.compiler.ir.ranges import union, within

Entry = TypeVar("Entry", View, TraceOf, View | TraceOf)


def distinct(views: Iterable[Entry]) -> tuple[Entry, ...]:
    """The same sight in fewer views, in the order of the first: those that differ in layers alone are joined, those
    that another covers are left out."""
    found = tuple(views)
    if len({view.segment for view in found}) == len(found):
        return found  # nothing to join or to cover, which is so nearly always; a long chain has many views
    joined: dict[Entry, Entry] = {}
    for view in found:
        key = replace(view, layers=None)
        joined[key] = replace(view, layers=union(joined[key].layers, view.layers)) if key in joined else view
    by_segment: dict[str, list[Entry]] = {}
    for view in joined.values():
        by_segment.setdefault(view.segment, []).append(view)
    return tuple(
        view
        for view in joined.values()
        if not any(other is not view and covers(other, view) for other in by_segment[view.segment])
    )


def covers(wide: View | TraceOf, narrow: View | TraceOf) -> bool:
    """Whether a view or trace shows all that another one of its segment does, as long and as open, and lets gradients
    through where that one does. No two that differ cover each other."""
    lasting = wide.until is None or (narrow.until is not None and wide.until >= narrow.until)
    return (
        lasting
        and _extent(wide) >= _extent(narrow)
        and within(narrow.layers, wide.layers)
        and (narrow.stop or not wide.stop)
        and (narrow.cut or not wide.cut)
        and set(wide.gates) <= set(narrow.gates)
    )


def _extent(view: View | TraceOf) -> int:
    return 2 if isinstance(view, TraceOf) else 1 if view.part == "all" else 0
