"""Resolve: syntax tree to Resolved. Every name is looked up, every value read and held against its type and range."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

from masc.compiler.graph import Model
from masc.compiler.models import resolve_target
from masc.compiler.params import declare, unknown_settings
from masc.compiler.plan import TrainSettings
from masc.compiler.resolve_agents import resolve_agents
from masc.compiler.resolve_graph import resolve_graph
from masc.compiler.resolve_train import resolve_train
from masc.compiler.resolved import Resolved
from masc.compiler.values import Scope, duplicate, unsupported
from masc.dsl import syntax
from masc.dsl.diagnostics import Diagnostic, Label
from masc.dsl.source import Span

ENTRIES = tuple(f.name for f in fields(TrainSettings))


def resolve(file: syntax.File, settings: Mapping[str, str], base: Path) -> tuple[Resolved | None, list[Diagnostic]]:
    """Look up everything in a file. `base`: the folder that local models are relative to. None without a graph."""
    scope = Scope()
    declarations = file.declarations
    foreign: set[str] = set()
    for node in (d for d in declarations if isinstance(d, syntax.Import)):
        unsupported(scope, "imports are", node.span, "write the agents into this file")
        foreign |= {name.text for name in node.names}
        scope.lost |= {"agent", "graph"}

    params = _params(scope, [d for d in declarations if isinstance(d, syntax.Param)], settings)
    models = _models(scope, [d for d in declarations if isinstance(d, syntax.Model)], base)
    agents, written = resolve_agents(
        scope, [d for d in declarations if isinstance(d, syntax.Agent)], {m.name: m for m in models}, foreign
    )
    trains = [d for d in declarations if isinstance(d, syntax.Train)]
    for extra in trains[1:]:
        duplicate(scope, "the `train` block", extra.span, trains[0].span)
    graph = _only_graph(scope, [d for d in declarations if isinstance(d, syntax.Graph)], file)
    outputs = [] if graph is None else [name.text for name in graph.outputs]
    labels, train = resolve_train(scope, trains[0] if trains else None, settings, outputs if graph else None)
    scope.notes += unknown_settings(settings, list(params), list(ENTRIES))
    if graph is None:
        return None, scope.notes

    wiring = resolve_graph(scope, graph, {a.name: a for a in agents}, written, foreign)
    resolved = Resolved(
        name=graph.name.text,
        inputs=wiring.inputs,
        outputs=wiring.outputs,
        models=models,
        agents=agents,
        mentions=wiring.mentions,
        links=wiring.links,
        gives=wiring.gives,
        labels=labels,
        train=train,
        written=written,
        unused=tuple(p for name, p in params.items() if name not in scope.used),
        lost=frozenset(scope.lost),
        span=graph.name.span,
    )
    return resolved, scope.notes


def _params(scope: Scope, declared: list[syntax.Param], settings: Mapping[str, str]) -> dict[str, syntax.Param]:
    params: dict[str, syntax.Param] = {}
    for param in declared:
        name = param.name.text
        if name in params:
            duplicate(scope, f"the parameter `{name}`", param.name.span, params[name].name.span)
            continue
        params[name] = param
        if name in ENTRIES:
            message = f"`{name}` is an entry of `train` as well, and `--set {name}=...` could mean either"
            scope.complain("E0205", message, param.name.span, "give the parameter another name")
        declare(scope, param, settings)
    return params


def _models(scope: Scope, declared: list[syntax.Model], base: Path) -> tuple[Model, ...]:
    models: dict[str, Model] = {}
    for model in declared:
        name = model.name.text
        if name in models:
            duplicate(scope, f"the model `{name}`", model.name.span, models[name].span)
        elif not isinstance(model.target.value, str) or not model.target.value:
            scope.complain("E0403", f"the model `{name}` takes a name in quotes", model.target.span)
            models[name] = Model(name, "", model.name.span)
        else:
            models[name] = Model(name, resolve_target(model.target.value, base), model.target.span)
    return tuple(models.values())


def _only_graph(scope: Scope, graphs: list[syntax.Graph], file: syntax.File) -> syntax.Graph | None:
    if not graphs:
        hint = "add one: `graph name(question) -> answer { ... }`"
        end = max((d.span.end for d in file.declarations), default=file.span.start)
        scope.complain("E0301", "this file has no graph", Span(file.span.source, end, end), hint)
        return None
    for extra in graphs[1:]:
        message = f"a file holds one graph, and `{extra.name.text}` is a second one"
        scope.complain("E0302", message, extra.name.span, None, Label(graphs[0].name.span, "the first one"))
    return graphs[0]
