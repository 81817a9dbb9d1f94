"""The pipeline: from a file to a plan, as a list of named passes.

Each pass is a pure function in a file of its own. It gets what the passes before it found out (a State) and returns
more of it; one whose input is missing is skipped, so that a file with errors is still checked as far as it can be
understood. After each pass its verifier holds what it made against what later passes rely on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from masc.compiler.analysis.handing import check_states
from masc.compiler.analysis.keep import keep
from masc.compiler.analysis.reach import with_reach
from masc.compiler.analysis.verify import verify_graph, verify_plan, verify_resolved, verify_tree
from masc.compiler.channels import PLAIN
from masc.compiler.files.artifacts import is_artifact
from masc.compiler.ir.graph import Graph, Model
from masc.compiler.ir.plan import Mode, Plan, Turn
from masc.compiler.ir.resolved import Resolved
from masc.compiler.models.facts import ModelFacts
from masc.compiler.models.locate import check_model, resolve_target
from masc.compiler.passes.check import check
from masc.compiler.passes.data_files import data_remarks
from masc.compiler.passes.extent import too_large
from masc.compiler.passes.frozen import frozen_out
from masc.compiler.passes.idle_settings import idle_settings
from masc.compiler.passes.objectives import objectives
from masc.compiler.passes.optimise import optimise
from masc.compiler.passes.place import place
from masc.compiler.passes.schedule import schedule
from masc.compiler.passes.starts import started
from masc.compiler.passes.text_team import as_text
from masc.compiler.passes.unroll import unroll
from masc.compiler.remarks.alike import few_alike
from masc.compiler.remarks.consequences import independent
from masc.compiler.remarks.silence import silence
from masc.compiler.resolve.imports import Program, point_back, read_program
from masc.compiler.resolve.program import resolve
from masc.dsl import syntax
from masc.dsl.diagnostics import Diagnostic, MascError, did_you_mean, errors
from masc.dsl.read import read, read_source
from masc.dsl.source import Source, Span

Cut = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class State:
    """What is known so far. `facts`: of the models that are on disk, by name; `texts`: what is read instead of imported
    files, by real path; `data`: whether the files of rows are looked at."""

    path: Path
    source: Source | None
    base: Path
    set: Mapping[str, str]
    cut: Cut
    channel: Mode = "graph"
    texts: Mapping[str, str] = field(default_factory=dict)
    data: bool = True
    file: syntax.File | None = None
    program: Program | None = None
    resolved: Resolved | None = None
    facts: Mapping[str, ModelFacts] = field(default_factory=dict)
    graph: Graph | None = None
    plan: Plan | None = None
    diagnostics: tuple[Diagnostic, ...] = ()

    @property
    def broken(self) -> bool:
        return bool(errors(self.diagnostics))

    def noting(self, found: list[Diagnostic]) -> State:
        return replace(self, diagnostics=self.diagnostics + tuple(found))


@dataclass(frozen=True)
class Compilation:
    """What a file compiles to: as many of the levels as could be reached, and all that there is to say about it.

    `plan` is None where there are errors. `base`: the folder that paths in the file are relative to; `set`: what
    `--set` said; `imported`: path (from `base`) and text of the imported files that lie in that folder or below.
    """

    file: syntax.File | None
    graph: Graph | None
    plan: Plan | None
    diagnostics: tuple[Diagnostic, ...]
    source: Source | None
    base: Path = Path()
    set: tuple[tuple[str, str], ...] = ()
    facts: Mapping[str, ModelFacts] = field(default_factory=dict)
    imported: tuple[tuple[str, str], ...] = ()

    @property
    def of_the_text(self) -> tuple[Diagnostic, ...]:
        """What there is to say where nobody wants to run it: a file that others can import from needs no graph."""
        return tuple(d for d in self.diagnostics if d.code != "E0301") if self.library else self.diagnostics

    @property
    def library(self) -> bool:
        """Whether the file is there to be imported from: it holds no graph, and nothing that only goes with one."""
        kinds = {type(declaration) for declaration in self.file.declarations} if self.file else set()
        return bool(kinds) and not kinds & {syntax.Graph, syntax.Train}

    def require(self) -> Plan:
        """The plan, or MascError with everything that was found."""
        if self.plan is None:
            raise MascError(self.diagnostics)
        return self.plan


def _parse(state: State) -> State:
    if state.source is not None:
        file, found = read_source(state.source)
        return replace(state, file=file).noting(found)
    file, found, source = read(state.path)
    return replace(state, file=file, source=source).noting(found)


def _imports(state: State) -> State:
    if state.file is None:
        return state
    program, found = read_program(state.file, state.path, state.base, state.texts)
    return replace(state, program=program).noting(found)


def _resolve(state: State) -> State:
    if state.program is None:
        return state
    resolved, found = resolve(state.program, state.set)
    return replace(state, resolved=resolved).noting(found)


def _unroll(state: State) -> State:
    return state if state.resolved is None else replace(state, graph=unroll(state.resolved))


def _check(state: State) -> State:
    if state.resolved is None or state.graph is None:
        return state.noting(_check_models(state))
    facts: dict[str, ModelFacts] = {}
    found: list[Diagnostic] = []
    for model in state.resolved.models:
        known, complaints = _look(model, state.base) if model.target else (None, [])
        found += complaints
        if known is not None:
            facts[model.name] = known
    found += [*check(state.resolved, state.graph, facts), *started(state.resolved, facts, state.base)]
    if state.file is not None:
        found += [*idle_settings(state.resolved, state.file), *objectives(state.resolved, state.file)]
    return replace(state, facts=facts).noting(found + _check_cut(state.resolved, state.cut))


def _look(model: Model, base: Path) -> tuple[ModelFacts | None, list[Diagnostic]]:
    return check_model(model.target, base, model.span, model.loading)


def _check_models(state: State) -> list[Diagnostic]:
    """What is wrong with the models of a file without a graph."""
    if state.program is None:
        return []
    main = state.program.modules[-1]
    models = [d.target for d in main.file.declarations if isinstance(d, syntax.Model)]
    return [
        complaint
        for target in models
        if isinstance(target.value, str) and target.value
        for complaint in check_model(resolve_target(target.value, main.folder), state.base, target.span)[1]
        if complaint.severity != "info"  # what is deferred, whoever runs it is told
    ]


def _check_cut(resolved: Resolved, cut: Cut) -> list[Diagnostic]:
    edges = [(link.edge.sender, link.edge.receiver) for link in resolved.links]
    shown = list(dict.fromkeys(f"{sender}:{receiver}" for sender, receiver in edges))
    found = []
    for pair in cut:
        if pair not in edges:
            wrong = ":".join(pair)
            hint = did_you_mean(wrong, shown) or f"the edges are {', '.join(shown) or 'none'}"
            found.append(Diagnostic("E0317", f"there is no edge `{wrong}` to cut", hint=hint))
    return found


def _data(state: State) -> State:
    if state.graph is None or state.file is None or not state.data:
        return state
    return state.noting(data_remarks(state.graph, state.file, state.base))


def _channel(state: State) -> State:
    if state.graph is None or state.channel == "graph":
        return state
    if (complaint := too_large(state.graph, listed=True)) is not None:
        return state.noting([complaint])
    return replace(state, graph=as_text(state.graph, _cut_edges(state.graph, state.cut)))


def _cut_edges(graph: Graph, cut: Cut) -> set[tuple[str, str]]:
    agents = {activation.id: activation.agent for activation in graph.activations}
    return {(e.sender, e.receiver) for e in graph.edges if (agents[e.sender], agents[e.receiver]) in cut}


def _schedule(state: State) -> State:
    return state if state.graph is None or state.broken else replace(state, plan=schedule(state.graph))


def _place(state: State) -> State:
    if state.graph is None or state.plan is None:
        return state
    if (complaint := too_large(state.graph)) is not None:
        return replace(state, plan=None).noting([complaint])
    pairs = _cut_edges(state.graph, state.cut)
    plan, found = place(state.graph, state.plan, pairs)
    layers = {name: facts.caches for name, facts in state.facts.items()}
    plan = with_reach(plan, layers)
    whole = not pairs and state.channel == "graph"
    found += check_states(plan, state.facts, partial(_incoming, state.graph))
    told = frozen_out(state.graph, plan, layers) if whole and not found else []
    return replace(state, plan=plan).noting(found + told)


def _incoming(graph: Graph, turn: Turn) -> list[Span | None]:
    """Where the edges stand by which a turn sees something."""
    return [edge.span for edge in graph.incoming(turn.activation, PLAIN.kind)]


def _optimise(state: State) -> State:
    return state if state.plan is None or state.broken else replace(state, plan=optimise(state.plan))


def _keep(state: State) -> State:
    return state if state.plan is None or state.broken else replace(state, plan=keep(state.plan))


def _verify(state: State) -> None:
    """Hold the newest level against its promises; the ones below have been held already."""
    if state.plan is not None:
        verify_plan(state.plan)
    elif state.graph is not None:
        verify_graph(state.graph)
    elif state.resolved is not None:
        verify_resolved(state.resolved)
    elif state.file is not None:
        verify_tree(state.file)


PASSES: tuple[tuple[str, Callable[[State], State]], ...] = (
    ("parse", _parse),
    ("imports", _imports),
    ("resolve", _resolve),
    ("unroll", _unroll),
    ("check", _check),
    ("data", _data),
    ("channel", _channel),
    ("schedule", _schedule),
    ("place", _place),
    ("optimise", _optimise),
    ("keep", _keep),
)


def compile_file(
    path: Path | str,
    set: Mapping[str, str] | None = None,
    cut: Cut = (),
    base: Path | str | None = None,
    channel: Mode = "graph",
) -> Compilation:
    """Compile a `.mas` or YAML file, or the source in an artifact. Never raises for what is in the file.

    `set`: values for parameters and train entries; `cut`: edges (sender, receiver) that shall carry nothing;
    `base`: the folder that local models are relative to (None: the file's own; of an artifact, the one it lies in);
    `channel`: "text" lets all agents talk in text.
    """
    path = Path(path)
    if base is None:
        base = path.parent.parent if is_artifact(path.parent) else path.parent
    # Absolute: an artifact remembers it, and may be written when the working directory is another one.
    return _run(State(path, None, Path(base).absolute(), _said(set), tuple(cut), channel))


def compile_source(
    source: Source,
    set: Mapping[str, str] | None = None,
    cut: Cut = (),
    base: Path | str = ".",
    channel: Mode = "graph",
    texts: Mapping[str, str] | None = None,
    data: bool = False,
) -> Compilation:
    """Compile a text. `base`: the folder that local models and data are relative to; `texts`: what an editor holds of
    imported files and has not saved, by real path; `data`: whether the files of rows that it names are looked at."""
    return _run(State(Path(source.path), source, Path(base), _said(set), tuple(cut), channel, texts or {}, data))


def _run(state: State) -> Compilation:
    for _name, run in PASSES:
        state = run(state)
        _verify(state)
    return _compiled(state)


def _compiled(state: State) -> Compilation:
    importers, copies = ({}, ()) if state.program is None else (state.program.importers, state.program.copies())
    places = {source: place for place, source in enumerate([*importers, state.source], start=1)}
    as_written = not (state.broken or state.cut or state.set or state.channel != "graph")
    files = _files(state)
    loud = silence(files, independent(files, dict.fromkeys(state.diagnostics)), complete=as_written)
    noted = point_back(loud, importers)
    found = tuple(few_alike(sorted(noted, key=lambda d: _place_of(d, places))))
    plan = None if state.broken else state.plan
    said = tuple(state.set.items())
    return Compilation(state.file, state.graph, plan, found, state.source, state.base, said, state.facts, copies)


def _files(state: State) -> list[syntax.File]:
    if state.program is not None:
        return [module.file for module in state.program.modules]
    return [] if state.file is None else [state.file]


def lower(compilation: Compilation, graph: Graph, cut: Cut = ()) -> Plan:
    """The plan of a graph that was made from a compilation's own (see `controls.py`), with edges cut: the passes after
    `channel`. MascError where it cannot be placed."""
    state = State(
        Path(), compilation.source, compilation.base, {}, cut, channel="text", facts=compilation.facts, graph=graph
    )
    names = [name for name, _ in PASSES]
    for _name, run in PASSES[names.index("channel") + 1 :]:
        state = run(state)
        _verify(state)
    if state.plan is None or state.broken:
        raise MascError(state.diagnostics)
    return state.plan


def text_plan(compilation: Compilation, cut: Cut = ()) -> Plan:
    """The plan of a compilation's graph where every agent talks in text (`channel = text`), with edges cut. MascError
    where the team is too large for that."""
    assert compilation.graph is not None
    if (complaint := too_large(compilation.graph, listed=True)) is not None:
        raise MascError([complaint])
    return lower(compilation, as_text(compilation.graph, _cut_edges(compilation.graph, cut)), cut)


def _said(set: Mapping[str, str] | None) -> dict[str, str]:
    return {str(name): _plain(value) for name, value in (set or {}).items()}


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _place_of(diagnostic: Diagnostic, places: Mapping[Source | None, int]) -> tuple[int, int]:
    """Diagnostics come in the order of the files, the main one last; those about something else come first."""
    span = diagnostic.span
    if span is None or span.source not in places:
        return 0, 0
    return places[span.source], span.start
