"""Which thing each name means, over all files: what definition, references and rename are made of.

A Symbol is a thing that is declared somewhere; a Mention is a place that names one. Most mentions mean one thing. An
import brings in everything of a name, and a placeholder in an imported agent is an input of each graph that the agent
is part of: those mean several.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from masc.compiler.resolve.templates import instances, mentioned
from masc.dsl import syntax
from masc.dsl.source import Span
from masc.lsp import words
from masc.lsp.texts import Parsed, imports

Kind = Literal["agent", "model", "param", "field", "input", "output", "graph"]
IMPORTED: tuple[Kind, ...] = ("agent", "model", "param")


@dataclass(frozen=True)
class Symbol:
    """`path`: the file that declares it; `owner`: the template whose field it is."""

    kind: Kind
    name: str
    path: str
    owner: str = ""


@dataclass(frozen=True)
class Mention:
    """`span`: of the name alone; `defines`: it is the declaration."""

    span: Span
    symbols: frozenset[Symbol]
    defines: bool = False


class _Unit:
    """What a file declares."""

    def __init__(self, path: str, file: syntax.File | None) -> None:
        self.path = path
        self.declarations: Sequence[syntax.Declaration] = file.declarations if file else ()
        self.imports = list(imports(path, file)) if file else []
        self.agents = {d.name.text: d for d in self.declarations if isinstance(d, syntax.Agent)}
        self.graph = next((d for d in self.declarations if isinstance(d, syntax.Graph)), None)
        self.instances = list(instances(self.graph.body)) if self.graph else []
        self.inputs = {name.text for name in self.graph.inputs} if self.graph else set()
        self.outputs = {name.text for name in self.graph.outputs} if self.graph else set()
        names: list[tuple[Kind, str]] = [("agent", name) for name in self.agents]
        names += [("agent", instance.name.text) for instance in self.instances]
        names += [("model", d.name.text) for d in self.declarations if isinstance(d, syntax.Model)]
        names += [("param", d.name.text) for d in self.declarations if isinstance(d, syntax.Param)]
        self.declared = {(kind, name): Symbol(kind, name, path) for kind, name in names}


class _Units:
    def __init__(self, files: Mapping[str, Parsed]) -> None:
        self.units = {path: _Unit(path, parsed.file) for path, parsed in files.items()}

    def find(self, path: str, kind: Kind, name: str, seen: frozenset[str] = frozenset()) -> Symbol | None:
        """What a name of a kind means in a file: what is declared there, else what is imported."""
        unit = self.units.get(path)
        if unit is None or path in seen:
            return None
        if (kind, name) in unit.declared:
            return unit.declared[kind, name]
        for node, target in unit.imports:
            if any(each.text == name for each in node.names):
                found = self.find(target, kind, name, seen | {path})
                if found is not None:
                    return found
        return None


@dataclass(frozen=True)
class Index:
    """`files`: by real path; `mentions`: of each file, in the order of the text; `users`: the files whose graphs hold
    an agent or make one of a template; `units`: what each file declares."""

    files: Mapping[str, Parsed]
    mentions: Mapping[str, tuple[Mention, ...]]
    users: Mapping[Symbol, tuple[str, ...]]
    units: _Units

    def at(self, path: str, offset: int) -> Mention | None:
        """What is named at an offset, or just before it."""
        found = [m for m in self.mentions.get(path, ()) if m.span.start <= offset <= m.span.end]
        return found[-1] if found else None

    def of(self, symbols: frozenset[Symbol], declarations: bool = True) -> Iterator[tuple[str, Mention]]:
        """Every place that names one of these, with its file."""
        for path, mentions in self.mentions.items():
            yield from ((path, m) for m in mentions if m.symbols & symbols and (declarations or not m.defines))

    def definitions(self, symbols: frozenset[Symbol]) -> Iterator[tuple[str, Mention]]:
        return ((path, mention) for path, mention in self.of(symbols) if mention.defines)

    def imported(self, path: str, offset: int) -> str | None:
        """The file that an import names, where its path stands at an offset."""
        unit = self.units.units.get(path)
        found = (
            target
            for node, target in (unit.imports if unit else ())
            if node.path.span.start <= offset <= node.path.span.end
        )
        return next((target for target in found if target in self.files), None)

    def declaration(self, symbol: Symbol) -> syntax.Agent | syntax.Model | syntax.Param | None:
        """What was written of an agent, a template, a model or a parameter; of an instance, its template."""
        unit = self.units.units[symbol.path]
        for node in unit.declarations:
            kind = type(node).__name__.lower()
            if isinstance(node, syntax.Agent | syntax.Model | syntax.Param) and (kind, node.name.text) == (
                symbol.kind,
                symbol.name,
            ):
                return node
        made = next((i for i in unit.instances if i.name.text == symbol.name), None) if symbol.kind == "agent" else None
        template = self.units.find(symbol.path, "agent", made.template.text) if made else None
        return None if template is None or template == symbol else self.declaration(template)

    def visible(self, path: str) -> Iterator[Symbol]:
        """What a file declares and imports, by name."""
        unit = self.units.units[path]
        yield from unit.declared.values()
        for node, target in unit.imports:
            for name in node.names:
                found = (self.units.find(target, kind, name.text) for kind in IMPORTED)
                yield from (symbol for symbol in found if symbol is not None)


def build(files: Mapping[str, Parsed]) -> Index:
    """The index of some files, as far as they could be understood."""
    units = _Units(files)
    users: dict[Symbol, dict[str, None]] = {}
    for path, unit in units.units.items():
        if unit.graph is None:
            continue
        names = [name.text for name in mentioned(unit.graph.body)] + [i.template.text for i in unit.instances]
        for symbol in (units.find(path, "agent", name) for name in dict.fromkeys(names)):
            if symbol is not None:
                users.setdefault(symbol, {}).setdefault(path)
    known = {symbol: tuple(paths) for symbol, paths in users.items()}
    mentions = {path: tuple(sorted(_Walk(units, unit, known).all(), key=_start)) for path, unit in units.units.items()}
    return Index(files, mentions, known, units)


def _start(mention: Mention) -> int:
    return mention.span.start


class _Walk:
    """The mentions of one file."""

    def __init__(self, units: _Units, unit: _Unit, users: Mapping[Symbol, tuple[str, ...]]) -> None:
        self.units = units
        self.unit = unit
        self.users = users

    def all(self) -> Iterator[Mention]:
        for node, target in self.unit.imports:
            for name in node.names:
                yield from _mention(name.span, *(self.units.find(target, kind, name.text) for kind in IMPORTED))
        for item in self.unit.declarations:
            match item:
                case syntax.Model():
                    yield self._defining("model", item.name)
                    yield from self._options(item.options, "model")
                case syntax.Param():
                    yield self._defining("param", item.name)
                case syntax.Agent():
                    yield from self._agent(item)
                case syntax.Graph():
                    yield self._defining("graph", item.name)
                    yield from (self._defining("input", name) for name in item.inputs)
                    yield from (self._defining("output", name) for name in item.outputs)
                    yield from self._body(item.body)
                case syntax.Train():
                    yield from self._train(item)

    def _defining(self, kind: Kind, name: syntax.Name, owner: str = "") -> Mention:
        return Mention(name.span, frozenset([Symbol(kind, name.text, self.unit.path, owner)]), defines=True)

    def _find(self, kind: Kind, name: str) -> Symbol | None:
        return self.units.find(self.unit.path, kind, name)

    def _agent(self, agent: syntax.Agent) -> Iterator[Mention]:
        yield self._defining("agent", agent.name)
        yield from _mention(agent.model.span, self._find("model", agent.model.text))
        yield from (self._defining("field", field.name, agent.name.text) for field in agent.fields)
        for member in agent.members:
            match member:
                case syntax.Say():
                    yield from self._prompt(agent, member.prompt)
                case syntax.Think():
                    yield from self._value(member.steps, (), agent)
                    yield from self._options(member.options, "think", agent)
                case syntax.Adapt():
                    yield from self._options(member.options, member.kind.text, agent)
                    if member.of is not None:
                        yield from _mention(member.of.span, self._find("agent", member.of.text))
                case syntax.Answer():
                    yield from self._options(member.options, "answer", agent)
                case syntax.Variables():
                    yield from self._options(member.options, "template", agent)

    def _prompt(self, agent: syntax.Agent, prompt: syntax.Prompt) -> Iterator[Mention]:
        here = Symbol("agent", agent.name.text, self.unit.path)
        for part in prompt.parts:
            if not isinstance(part, syntax.Placeholder):
                continue
            span = part.span
            if span.text == f"{{{part.name}}}":
                span = Span(span.source, span.start + 1, span.end - 1)
            if (field := self._field(agent, part.name)) is not None:
                yield from _mention(span, field)
                continue
            graphs = dict.fromkeys((*self.users.get(here, ()), self.unit.path))
            yield from _mention(span, *(self._fill(path, part.name) for path in graphs))

    def _fill(self, path: str, name: str) -> Symbol | None:
        """What fills a placeholder in the graph of a file: an input, or a sender."""
        unit = self.units.units[path]
        if name in unit.inputs:
            return Symbol("input", name, path)
        return self.units.find(path, "agent", name) if unit.graph is not None else None

    def _field(self, agent: syntax.Agent | None, name: str) -> Symbol | None:
        if agent is not None and any(field.name.text == name for field in agent.fields):
            return Symbol("field", name, self.unit.path, agent.name.text)
        return None

    def _options(
        self, options: Sequence[syntax.Option], owner: str, agent: syntax.Agent | None = None
    ) -> Iterator[Mention]:
        table = words.OPTIONS.get(owner, {})
        for option in options:
            name = option.name.text
            own = (*table[name].reads.words, *table[name].reads.items) if name in table else ()
            yield from self._value(option.value, own, agent)

    def _value(self, value: syntax.Value, own: Sequence[str], agent: syntax.Agent | None = None) -> Iterator[Mention]:
        """A bare name is a field or a parameter, unless it is one of the option's own words."""
        if isinstance(value, syntax.List):
            for item in value.items:
                yield from self._value(item, own, agent)
        elif isinstance(value, syntax.Table):
            yield from self._options(value.entries, "template", agent)
        elif isinstance(value, syntax.Call):
            yield from self._options(value.options, value.name.text, agent)
        elif isinstance(value, syntax.Name) and value.text not in own:
            yield from _mention(value.span, self._field(agent, value.text) or self._find("param", value.text))

    def _argument(self, value: syntax.Value) -> Iterator[Mention]:
        """A bare name is a parameter or an input of the graph."""
        if isinstance(value, syntax.Name) and value.text in self.unit.inputs:
            parameter = self._find("param", value.text)
            yield from _mention(value.span, parameter or Symbol("input", value.text, self.unit.path))
        else:
            yield from self._value(value, ())

    def _body(self, body: Sequence[syntax.Statement]) -> Iterator[Mention]:
        for statement in body:
            match statement:
                case syntax.Instance():
                    yield self._defining("agent", statement.name)
                    yield from _mention(statement.template.span, self._find("agent", statement.template.text))
                    for argument in statement.arguments:
                        yield from self._argument(argument)
                case syntax.Lone():
                    yield from self._member(statement.name)
                case syntax.Repeat():
                    yield from self._value(statement.count, ())
                    yield from self._body(statement.body)
                case syntax.Edge():
                    for stage in statement.stages:
                        for name in stage.names:
                            yield from self._member(name)
                    if statement.channel is not None:
                        yield from self._options(statement.channel.options, statement.channel.kind.text)

    def _member(self, name: syntax.Name) -> Iterator[Mention]:
        """An agent of the graph, else one of its outputs."""
        output = Symbol("output", name.text, self.unit.path) if name.text in self.unit.outputs else None
        yield from _mention(name.span, self._find("agent", name.text) or output)

    def _train(self, train: syntax.Train) -> Iterator[Mention]:
        for entry in train.entries:
            if isinstance(entry, syntax.Supervise):
                name = entry.output
                output = Symbol("output", name.text, self.unit.path) if name.text in self.unit.outputs else None
                read = Symbol("input", name.text, self.unit.path) if name.text in self.unit.inputs else None
                yield from _mention(name.span, output or self._find("agent", name.text) or read)
            else:
                option = words.OPTIONS["train"].get(entry.name.text)
                yield from self._value(entry.value, option.reads.words if option else ())


def _mention(span: Span, *symbols: Symbol | None) -> Iterator[Mention]:
    known = frozenset(symbol for symbol in symbols if symbol is not None)
    if known:
        yield Mention(span, known)
