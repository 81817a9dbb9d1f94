"""Which turns can go on from what layers of a recurrent model keep beside keys and values (docs/semantics.md, 4.6).

A state holds all that its turn has read, and nothing else can be read off it. So a receiver can have one only where it
sees, as a whole, a segment and all that this one's turn saw: along a chain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from masc.compiler.analysis.sights import Sights, sights
from masc.compiler.ir.plan import Plan, Turn, View
from masc.compiler.models.facts import ALONG, ModelFacts, stateful
from masc.dsl.diagnostics import Diagnostic, fail
from masc.dsl.source import Span


def handed(views: Sequence[View], seen: Sights) -> str:
    """The segment whose state, at its end, is one of all that these views show. seen: what every turn sees. ValueError
    says why there is none."""
    for view in views:
        if view.part == "latents":
            raise ValueError(f"of `{view.segment}` only latents would be seen")
        if view.layers is not None:
            raise ValueError(f"`{view.segment}` would be seen by some of the layers alone")
        if view.gates:
            raise ValueError(f"a gate would stand before `{view.segment}`")
        if view.until is not None:
            raise ValueError(f"`{view.segment}` would be seen for a while alone (`open`)")
        if view.shift:
            raise ValueError(f"`{view.segment}` would be moved")
    shown = {view.segment: view.stop for view in views}
    for last, stop in shown.items():
        before = {view.segment: view.stop for view in seen[last]}
        if shown.keys() == {*before, last}:
            if not stop and any(shown[name] and not stopped for name, stopped in before.items()):
                raise ValueError(f"a gradient would go back through `{last}` that is stopped elsewhere")
            return last
    several = ", ".join(f"`{name}`" for name in list(shown)[-2:])
    raise ValueError(f"no turn has read all that it would see ({several}), and nothing else")


def state_from(agent: str, views: Sequence[View], seen: Sights) -> str:
    """As `handed`, of an agent that sees these views. E0523 where nobody has the state."""
    try:
        return handed(views, seen)
    except ValueError as why:
        message = f"`{agent}` cannot go on from what its model keeps beside keys and values: {why}"
        raise fail("E0523", message) from None


def check_states(
    plan: Plan,
    facts: Mapping[str, ModelFacts],
    places: Callable[[Turn], Iterable[Span | None]] = lambda turn: (None,),
) -> list[Diagnostic]:
    """Complaints about turns that cannot have the state that they would need. facts: by name of the plan's models;
    places: where it is said of a turn."""
    targets = {model.name: model.target for model in plan.models if model.name in facts and stateful(facts[model.name])}
    seen = sights(plan) if targets else {}
    found = []
    for turn in plan.turns if targets else ():
        views, model = seen[turn.activation], plan.agent(turn.agent).model
        if not views or model not in targets:
            continue
        try:
            handed(views, seen)
        except ValueError as why:
            kept = stateful(facts[model])
            message = f"`{turn.agent}` cannot go on from what the model `{targets[model]}` keeps: {why} ({kept})"
            found += [Diagnostic("E0523", message, place, hint=ALONG) for place in places(turn)]
    return list(dict.fromkeys(found))
