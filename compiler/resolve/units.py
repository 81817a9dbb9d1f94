"""Units: what each file declares and imports, resolved under the names that it has there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from masc.compiler.files.artifacts import is_artifact
from masc.compiler.ir.graph import Agent, Model
from masc.compiler.ir.model import Loading
from masc.compiler.ir.plan import TrainSettings
from masc.compiler.language.models import MODEL
from masc.compiler.language.options import read_options
from masc.compiler.language.values import Scope, duplicate
from masc.compiler.models.locate import resolve_target
from masc.compiler.resolve.agents import read_agent
from masc.compiler.resolve.imports import Module
from masc.compiler.resolve.names import reserved
from masc.compiler.resolve.params import declare
from masc.compiler.resolve.starts import Here
from masc.compiler.resolve.templates import check_fields, read_template
from masc.dsl import syntax
from masc.dsl.diagnostics import Label, did_you_mean
from masc.dsl.source import Span

ENTRIES = tuple(f.name for f in fields(TrainSettings))


@dataclass(eq=False)
class Home:
    """An agent or a template (`agent` None), and the file where its names mean something. `model` None: unknown."""

    written: syntax.Agent
    unit: Unit
    agent: Agent | None
    model: Model | None


@dataclass(eq=False)
class Unit:
    """A file's names. `scope.params`, `models` and `agents` hold what is imported as well; `params`: what is declared.

    `places`: where a name of a kind came in, `origins`: and from which file if it was imported; `foreign`: names that
    could not be imported or understood, about which nothing more shall be said; `ridden`: models with an agent.
    """

    module: Module
    here: Here
    scope: Scope = field(default_factory=Scope)
    params: dict[str, syntax.Param] = field(default_factory=dict)
    models: dict[str, Model] = field(default_factory=dict)
    agents: dict[str, Home] = field(default_factory=dict)
    places: dict[tuple[str, str], Span] = field(default_factory=dict)
    origins: dict[tuple[str, str], Unit] = field(default_factory=dict)
    foreign: set[str] = field(default_factory=set)
    ridden: set[str] = field(default_factory=set)

    def tables(self) -> dict[str, dict[str, Any]]:
        """What can be imported, by kind."""
        return {"parameter": self.scope.params, "model": self.models, "agent": self.agents}

    def model(self, agent: syntax.Agent) -> Model | None:
        """The model that an agent of this file runs on; complained about if there is none."""
        name = agent.model.text
        self.ridden.add(name)
        if name in self.models:
            return self.models[name]
        self.scope.lost.add("model")
        if name not in self.foreign:
            declare = f'declare it: `model {name} = "smollm2-135m"`'
            message = f"there is no model `{name}`"
            self.scope.complain("E0201", message, agent.model.span, lambda: did_you_mean(name, self.models) or declare)
        return None


def read_units(modules: Sequence[Module], settings: Mapping[str, str]) -> list[Unit]:
    """The unit of each module, complaints in its scope."""
    units: list[Unit] = []
    root = Path(modules[-1].source.path).parent
    kept = root if is_artifact(root) else None
    for module in modules:
        imports = [(node, None if i is None else units[i]) for node, i in module.imports]
        units.append(_unit(module, Here(module.folder, kept), imports, settings))
    return units


def _unit(
    module: Module, here: Here, imports: list[tuple[syntax.Import, Unit | None]], settings: Mapping[str, str]
) -> Unit:
    unit = Unit(module, here)
    for node, other in imports:
        for name in node.names:
            _bring(unit, name, node, other)
    for declaration in module.file.declarations:
        if isinstance(declaration, syntax.Param) and _new(unit, "parameter", declaration.name):
            _param(unit, declaration, settings)
        elif isinstance(declaration, syntax.Model) and _new(unit, "model", declaration.name):
            _model(unit, declaration)
    # Agents use all models and parameters, wherever those stand.
    for declaration in module.file.declarations:
        if isinstance(declaration, syntax.Agent) and _new(unit, "agent", declaration.name):
            _agent(unit, declaration)
    return unit


def _bring(unit: Unit, name: syntax.Name, node: syntax.Import, other: Unit | None) -> None:
    text = name.text
    found = {} if other is None else {kind: table[text] for kind, table in other.tables().items() if text in table}
    if other is None or not found:
        if other is not None and text not in other.foreign and not other.module.broken:
            _undeclared(unit, name, node, other)
        unit.foreign.add(text)
        unit.scope.lost |= {"agent", "graph", "model", "param"}
        return
    for kind, thing in found.items():
        key = kind, text
        first = unit.places.setdefault(key, name.span)
        if first is name.span:
            unit.tables()[kind][text] = thing
            unit.origins[key] = other
        elif unit.origins[key] is other:
            duplicate(unit.scope, f"the import of `{text}`", name.span, first)
        elif unit.tables()[kind][text] is not thing:
            here, there = other.module.source.path, unit.origins[key].module.source.path
            message = f"`{text}` is imported from `{there}` and from `{here}`, and they are different things"
            label = Label(first, f"imported from `{there}` here")
            unit.scope.complain("E0210", message, name.span, "import one of them", label)


def _undeclared(unit: Unit, name: syntax.Name, node: syntax.Import, other: Unit) -> None:
    known = [text for table in other.tables().values() for text in table]
    graph = next((d for d in other.module.file.declarations if isinstance(d, syntax.Graph)), None)
    labels, hint = [], did_you_mean(name.text, known)
    if graph is not None and graph.name.text == name.text:
        hint = "agents, templates, models and parameters can be imported, a graph cannot"
        labels = [Label(graph.name.span, "the graph")]
    elif hint is not None:
        near = next(text for text in known if f"`{text}`" in hint)
        place = next(span for (_, text), span in other.places.items() if text == near)
        labels = [Label(place, f"`{near}` is declared here")]
        unit.foreign.add(near)  # it may be written rightly elsewhere
    elif known:
        hint = f"it declares {', '.join(known)}"
    message = f"`{other.module.source.path}` declares no `{name.text}`"
    unit.scope.complain("E0209", message, name.span, hint, *labels)


def _new(unit: Unit, kind: str, name: syntax.Name) -> bool:
    """Whether a name of a kind is declared for the first time. What is imported as well gives way."""
    key = kind, name.text
    first = unit.places.get(key)
    if first is not None and key not in unit.origins:
        duplicate(unit.scope, f"the {kind} `{name.text}`", name.span, first)
        return False
    if first is not None:
        message = f"the {kind} `{name.text}` is declared here, and imported as well"
        hint = "give this one another name, or take it out of the import"
        unit.scope.complain("E0210", message, name.span, hint, Label(first, "imported here"))
        del unit.origins[key]
        unit.tables()[kind].pop(name.text)
    unit.places[key] = name.span
    return True


def _param(unit: Unit, param: syntax.Param, settings: Mapping[str, str]) -> None:
    name = param.name.text
    unit.params[name] = param
    if name in ENTRIES:
        message = f"`{name}` is an entry of `train` as well, and `--set {name}=...` could mean either"
        unit.scope.complain("E0205", message, param.name.span, "give the parameter another name")
    declare(unit.scope, param, settings)
    if name not in unit.scope.params:
        unit.foreign.add(name)


def _model(unit: Unit, model: syntax.Model) -> None:
    name, target = model.name.text, model.target
    said = read_options(unit.scope, model.options, MODEL, "a model")
    variables = said.pop("template", ())
    if isinstance(target.value, str) and target.value:
        found = resolve_target(target.value, unit.module.folder)
        unit.models[name] = Model(name, found, target.span, Loading(**said), variables)
        return
    unit.scope.complain("E0403", f"the model `{name}` takes a name in quotes", target.span)
    unit.models[name] = Model(name, "", model.name.span)


def _agent(unit: Unit, agent: syntax.Agent) -> None:
    name = agent.name.text
    home = unit.agents[name] = Home(agent, unit, None, unit.model(agent))
    if agent.fields:
        check_fields(unit.scope, agent)
        read_template(unit.scope, agent, agent.name, {}, unit.here)
        return
    check_name(unit.scope, agent.name)
    home.agent = read_agent(unit.scope, agent, agent.name, unit.here)


def check_name(scope: Scope, name: syntax.Name) -> None:
    """E0203 where an agent or an instance cannot be called so."""
    if (why := reserved(name.text)) is not None:
        message = f"an agent cannot be called `{name.text}`: {why}"
        scope.complain("E0203", message, name.span, "choose another name")
