"""Resolve: syntax trees to Resolved. Every name is looked up, every value read and held against its type and range."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePath

from masc.compiler.ir.graph import Agent, Model
from masc.compiler.ir.model import told_of
from masc.compiler.ir.resolved import Resolved
from masc.compiler.language.values import Scope, duplicate
from masc.compiler.resolve.graph_block import resolve_graph
from masc.compiler.resolve.imports import Program
from masc.compiler.resolve.params import unknown_settings
from masc.compiler.resolve.shared import share
from masc.compiler.resolve.templates import instances, mentioned, read_arguments, read_template
from masc.compiler.resolve.train import resolve_train
from masc.compiler.resolve.units import ENTRIES, Home, Unit, check_name, read_units
from masc.compiler.resolve.unused import unused
from masc.dsl import syntax
from masc.dsl.diagnostics import Diagnostic, Label, did_you_mean
from masc.dsl.limits import PROMPTS
from masc.dsl.source import Span


@dataclass(frozen=True)
class _Member:
    """An agent that the graph can name: declared here, imported (`ours` False), or made of a template here."""

    agent: Agent
    home: Home
    ours: bool


def resolve(program: Program, settings: Mapping[str, str]) -> tuple[Resolved | None, list[Diagnostic]]:
    """Look up everything in the main file, and in those that it imports. None without a graph."""
    units = read_units(program.modules, settings)
    main, scope = units[-1], units[-1].scope
    file = main.module.file
    trains = [d for d in file.declarations if isinstance(d, syntax.Train)]
    for extra in trains[1:]:
        duplicate(scope, "the `train` block", extra.span, trains[0].span)
    graph = _only_graph(scope, [d for d in file.declarations if isinstance(d, syntax.Graph)], file)
    scope.notes += unknown_settings(settings, [name for unit in units for name in unit.params], ENTRIES)
    if graph is None:
        resolve_train(scope, trains[0] if trains else None, settings, None, (), ())
        return None, _notes(units)

    templates = {name: home for name, home in main.agents.items() if home.agent is None}
    members = _members(main)
    members |= _instances(main, graph, members, templates)
    written = {name: member.home.written for name, member in members.items()}
    _misused(scope, graph, members, templates)
    taken = share(main, {name: (member.agent, member.home) for name, member in members.items()}, graph)
    members |= {name: replace(members[name], agent=agent) for name, agent in taken.items()}
    agents = {name: member.agent for name, member in members.items()}
    wiring = resolve_graph(scope, graph, agents, written, (main.foreign | templates.keys()) - agents.keys())
    outputs, telling = [name.text for name in wiring.outputs], wiring.telling
    inputs = [name.text for name in wiring.inputs]
    labels, columns, train = resolve_train(scope, trains[0] if trains else None, settings, outputs, telling, inputs)
    named = set(wiring.mentions)
    crew = [member for name, member in members.items() if member.ours or name in named]
    models, riding = _models(main, crew)
    resolved = Resolved(
        name=graph.name.text,
        inputs=wiring.inputs,
        outputs=wiring.outputs,
        models=models,
        agents=riding,
        mentions=wiring.mentions,
        body=wiring.body,
        gives=wiring.gives,
        labels=labels,
        columns=columns,
        train=train,
        written=written,
        lost=frozenset(scope.lost),
        span=graph.name.span,
    )
    made = {statement.template.text for statement in instances(graph.body)}
    scope.notes += unused(main, {*wiring.mentions, *made, *(name.text for name in mentioned(graph.body))})
    return resolved, _notes(units)


def _notes(units: list[Unit]) -> list[Diagnostic]:
    return [note for unit in units for note in unit.scope.notes]


def _members(main: Unit) -> dict[str, _Member]:
    return {
        name: _Member(home.agent, home, ours=home.unit is main)
        for name, home in main.agents.items()
        if home.agent is not None
    }


def _instances(
    main: Unit, graph: syntax.Graph, members: Mapping[str, _Member], templates: Mapping[str, Home]
) -> dict[str, _Member]:
    """The agents that the graph makes of templates, by name."""
    scope = main.scope
    found: dict[str, _Member] = {}
    size = 0
    for statement in instances(graph.body):
        name, template = statement.name.text, statement.template.text
        first = found[name].agent.span if name in found else main.places.get(("agent", name))
        if first is not None:
            duplicate(scope, f"the agent `{name}`", statement.name.span, first)
            continue
        check_name(scope, statement.name)
        if template not in templates:
            main.foreign.add(name)  # its edges are not to blame
            if template not in main.foreign or template in members:
                _no_template(scope, statement, members, templates)
            continue
        home = templates[template]
        given = read_arguments(scope, home.written, statement, [name.text for name in graph.inputs])
        agent = read_template(home.unit.scope, home.written, statement.name, given, home.unit.here)
        size += sum(len(part) for part in (*(agent.system or ()), *agent.user) if isinstance(part, str))
        if size > PROMPTS:
            message = f"up to here the prompts of the agents made of templates have more than {PROMPTS:,} characters"
            scope.complain("E0217", message, statement.span, "use fewer agents, or a shorter template")
            main.foreign |= {other.name.text for other in instances(graph.body)} - found.keys()
            break
        found[name] = _Member(agent, home, ours=True)
    return found


def _no_template(
    scope: Scope, statement: syntax.Instance, members: Mapping[str, _Member], templates: Mapping[str, Home]
) -> None:
    name = statement.template.text
    if name in members:
        label = Label(members[name].home.written.name.span, f"`{name}` is declared here, without fields")
        hint = f"write `{name}` itself in the edges, or give it fields: `agent {name}(field: text) on ...`"
        scope.complain("E0213", f"`{name}` is an agent, not a template", statement.template.span, hint, label)
        return
    declare = f"declare it: `agent {name}(field: text) on ...`"
    message = f"there is no template `{name}`"
    scope.complain("E0201", message, statement.template.span, lambda: did_you_mean(name, templates) or declare)


def _misused(scope: Scope, graph: syntax.Graph, members: Mapping[str, _Member], templates: Mapping[str, Home]) -> None:
    """Complain about templates that stand where an agent is wanted, once about each."""
    outputs = {output.text for output in graph.outputs}
    first = {name.text: name for name in reversed(list(mentioned(graph.body)))}
    for text, name in first.items():
        if text in templates and text not in outputs and text not in members:
            message = f"`{text}` is a template, and edges join agents"
            hint = f"make an agent of it: `name = {text}(...)`"
            label = Label(templates[text].written.name.span, "the template")
            scope.complain("E0212", message, name.span, hint, label)


def _models(main: Unit, crew: list[_Member]) -> tuple[tuple[Model, ...], tuple[Agent, ...]]:
    """All models under different names, and the agents on them.

    Those of the main file keep their names. One that is called and is the same elsewhere is one with them; another one
    gets its file's name added.
    """
    taken = {name: model for name, model in main.models.items() if ("model", name) not in main.origins}
    known = [model for member in crew if (model := member.home.model) is not None]
    here = {id(model) for model in main.models.values()}
    near = [model for model in known if id(model) in here]
    for model in (*near, *known):
        _name_of(taken, model)
    agents = []
    for member in crew:
        model, agent = member.home.model, member.agent
        if model is not None:
            agent = replace(agent, model=_name_of(taken, model), variables=told_of(model.variables, agent.variables))
        agents.append(agent)
    return tuple(taken.values()), tuple(agents)


def _name_of(taken: dict[str, Model], model: Model) -> str:
    """The name of a model among those that are taken, where it is put if it is not there yet."""
    stem = re.sub(r"\W", "_", PurePath(model.span.source.path).stem)
    for name in _names(model.name, stem):
        named = replace(model, name=name)
        if taken.setdefault(name, named) == named:
            return name
    raise AssertionError("there is always another name")


def _names(name: str, stem: str) -> Iterable[str]:
    yield name
    yield f"{name}_{stem}"
    number = 2
    while True:
        yield f"{name}_{stem}_{number}"
        number += 1


def _only_graph(scope: Scope, graphs: list[syntax.Graph], file: syntax.File) -> syntax.Graph | None:
    if not graphs:
        hint = "add one: `graph name(question) -> answer { ... }`; or give the command the file that imports this one"
        end = max((d.span.end for d in file.declarations), default=file.span.start)
        scope.complain("E0301", "this file has no graph", Span(file.span.source, end, end), hint)
        return None
    for extra in graphs[1:]:
        message = f"a file holds one graph, and `{extra.name.text}` is a second one"
        hint = "put it into a file of its own; agents can be imported there"
        scope.complain("E0302", message, extra.name.span, hint, Label(graphs[0].name.span, "the first one"))
    return graphs[0]
