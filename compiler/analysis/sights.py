"""What each turn sees in the end, segment by segment: `trace(...)` worked out (docs/semantics.md, section 4.3).

The plan says `trace(critic#1)` where it could list all that the critic sees, so that a chain of agents is as long as it
is written. Whoever needs the segments themselves (to run a turn, to show it) asks here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from masc.compiler.ir.plan import Plan, TraceOf, Turn, View
from masc.compiler.ir.ranges import intersection
from masc.compiler.ir.views import distinct

Sights = dict[str, tuple[View, ...]]
"""By activation, the views of segments: each once, cut ones among them."""


def sights(plan: Plan) -> Sights:
    """What every turn sees, without what is cut."""
    whole: Sights = {}
    for turn in plan.turns:
        whole[turn.activation] = sight(turn, whole)
    return {name: tuple(view for view in views if not view.cut) for name, views in whole.items()}


def sight(turn: Turn, before: Mapping[str, tuple[View, ...]]) -> tuple[View, ...]:
    """The views of one turn (cut ones among them), given those of the turns that its traces name.

    A segment is seen at one place: where one path moves it, it is moved whichever way it came.
    """
    found = [view for entry in turn.sees for view in expanded(entry, before)]
    shifts = {view.segment: view.shift for view in reversed(found) if view.shift}
    return distinct(replace(view, shift=shifts[view.segment]) if view.segment in shifts else view for view in found)


def expanded(entry: View | TraceOf, before: Mapping[str, tuple[View, ...]]) -> Iterator[View]:
    """The views that one entry of `sees` stands for."""
    if isinstance(entry, View):
        yield entry
        return
    for view in before[entry.segment]:
        layers = intersection(view.layers, entry.layers)
        if layers != ():
            until = min((n for n in (view.until, entry.until) if n is not None), default=None)
            yield replace(
                view,
                layers=layers,
                stop=view.stop or entry.stop,
                until=until,
                cut=view.cut or entry.cut,
                gates=tuple(sorted({*view.gates, *entry.gates})),
            )
    yield View(entry.segment, "all", entry.layers, entry.stop, entry.shift, entry.until, entry.cut, entry.gates)
