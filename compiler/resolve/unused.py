"""What a main file declares or imports and does not use. Only warnings come out."""

from __future__ import annotations

from collections.abc import Iterator, Set

from masc.compiler.resolve.templates import named_in
from masc.compiler.resolve.units import Unit
from masc.dsl.diagnostics import Diagnostic
from masc.dsl.source import Span


def unused(main: Unit, named: Set[str]) -> list[Diagnostic]:
    """All warnings about the file; none of a kind about which not everything was understood.

    `named`: the agents and templates in the graph. (Agents that are not in it, and inputs that nobody reads, are
    complained about by `check`, which knows who reads what.)
    """
    lost = main.scope.lost
    found: list[Diagnostic] = []
    if not {"model", "agent"} & lost:
        found += _models(main)
    if not {"param", "use", "agent"} & lost:
        found += _params(main)
    if not {"graph", "agent"} & lost:
        found += _templates(main, named)
    if not {"graph", "agent", "model", "param", "use"} & lost:
        found += _imports(main, named)
    return [*found, *_fields(main)]


def _models(main: Unit) -> Iterator[Diagnostic]:
    for name, model in main.models.items():
        if name not in main.ridden and ("model", name) not in main.origins:
            yield Diagnostic("W0201", f"no agent runs on the model `{name}`", model.span)


def _params(main: Unit) -> Iterator[Diagnostic]:
    for name, param in main.params.items():
        if name not in main.scope.used:
            yield Diagnostic("W0202", f"the parameter `{name}` is not used", param.name.span)


def _templates(main: Unit, named: Set[str]) -> Iterator[Diagnostic]:
    for name, home in main.agents.items():
        if home.agent is None and home.unit is main and name not in named:
            message = f"no agent is made of the template `{name}`"
            values = ", ".join(entry.name.text for entry in home.written.fields)
            hint = f"write `name = {name}({values})` with values in the graph"
            yield Diagnostic("W0206", message, home.written.name.span, hint=hint)


def _imports(main: Unit, named: Set[str]) -> Iterator[Diagnostic]:
    """One warning for each imported name of which nothing is used, whatever kinds of things it stands for."""
    used = {"parameter": main.scope.used, "model": main.ridden, "agent": named}
    places: dict[str, Span] = {}
    for kind, name in main.origins:
        places.setdefault(name, main.places[kind, name])
    for name, place in places.items():
        if not any(name in used[kind] for kind in used if (kind, name) in main.origins):
            yield Diagnostic("W0205", f"`{name}` is imported and not used", place, hint="take it out of the import")


def _fields(main: Unit) -> Iterator[Diagnostic]:
    for home in main.agents.values():
        if home.unit is main and home.written.fields:
            names = named_in(home.written)
            for entry in home.written.fields:
                if entry.name.text not in names:
                    name = entry.name.text
                    message = f"the template `{home.written.name.text}` does not use its field `{name}`"
                    hint = f"a prompt shows it where it says `{{{name}}}`"
                    yield Diagnostic("W0207", message, entry.name.span, hint=hint)
