"""What is shown of the thing under the pointer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from masc.compiler.channels import CHANNELS
from masc.compiler.channels.declare import Channel
from masc.compiler.ir.graph import Agent, Edge, Graph
from masc.compiler.ir.model import Loading
from masc.compiler.ir.plan import Slot, agent_of
from masc.compiler.language.adapters import ADAPTERS
from masc.compiler.models.facts import ModelFacts
from masc.compiler.models.locate import check_model
from masc.compiler.pipeline import Compilation
from masc.compiler.resolve.imports import read_program
from masc.compiler.resolve.templates import read_template
from masc.compiler.resolve.units import read_units
from masc.dsl import syntax
from masc.dsl.formatter import format_value
from masc.lsp import costs, words
from masc.lsp.describe import describe_agent, describe_edge, describe_model
from masc.lsp.index import Index, Mention, Symbol
from masc.lsp.place import place

Compile = Callable[[str], Compilation]
"""Compiles a file as the main one, by its real path."""


@dataclass(frozen=True)
class Hover:
    """Markdown about what stands from `start` to `end`."""

    text: str
    start: int
    end: int


def hover(index: Index, compile: Compile, path: str, offset: int) -> Hover | None:
    """What there is to say about the place at an offset."""
    mention = index.at(path, offset)
    if mention is not None:
        texts = [
            text for symbol in sorted(mention.symbols, key=_order) if (text := _symbol(index, compile, path, symbol))
        ]
        return Hover("\n\n---\n\n".join(texts), mention.span.start, mention.span.end) if texts else None
    file = index.files[path].file if path in index.files else None
    for entry in _supervised(file) if file else ():
        if entry.column.span.start <= offset <= entry.column.span.end:
            what = f"what `{entry.output.text}` is to say in training"
            if (symbol := index.at(path, entry.output.span.start)) and any(s.kind == "input" for s in symbol.symbols):
                what = f"where the input `{entry.output.text}` is read"
            text = f"**column `{entry.column.text}`** of the data: {what}"
            return Hover(text, entry.column.span.start, entry.column.span.end)
    return _word(index, compile, path, offset)


def _supervised(file: syntax.File) -> Iterator[syntax.Supervise]:
    for train in file.declarations:
        if isinstance(train, syntax.Train):
            yield from (entry for entry in train.entries if isinstance(entry, syntax.Supervise))


def _model(compile: Compile, symbol: Symbol, target: str) -> str:
    """A model as the file has it. In a file without a graph nothing is known of how it is loaded."""
    graph, base = compile(symbol.path).graph, Path(symbol.path).parent
    model = next((each for each in graph.models if each.name == symbol.name), None) if graph else None
    loading = model.loading if model else Loading()
    return describe_model(symbol.name, target, loading, check_model(target, base, loading=loading)[0])


def _order(symbol: Symbol) -> tuple[str, str]:
    return symbol.kind, symbol.path


def _symbol(index: Index, compile: Compile, path: str, symbol: Symbol) -> str | None:
    match symbol.kind:
        case "agent":
            return _agent(index, compile, path, symbol)
        case "model":
            node = index.declaration(symbol)
            assert isinstance(node, syntax.Model)
            return _model(compile, symbol, str(node.target.value))
        case "param":
            node = index.declaration(symbol)
            assert isinstance(node, syntax.Param)
            uses = sum(1 for _ in index.of(frozenset([symbol]), declarations=False))
            about = words.TYPES.get(node.type.text, "")
            text = f"**param `{symbol.name}`**: {node.type.text} = `{format_value(node.default)}`"
            return (
                f"{text}\n\n{about} Named in {uses} place{'s' if uses != 1 else ''}; `--set {symbol.name}=...` sets it."
            )
        case "field":
            template = index.declaration(Symbol("agent", symbol.owner, symbol.path))
            fields = template.fields if isinstance(template, syntax.Agent) else ()
            kind = next((field.type.text for field in fields if field.name.text == symbol.name), "")
            return f"**field `{symbol.name}`**: {kind}, of the template `{symbol.owner}`"
        case "input":
            readers = [_reader(index, where, m) for where, m in index.of(frozenset([symbol]), declarations=False)]
            names = ", ".join(f"`{name}`" for name in dict.fromkeys(filter(None, readers)))
            return f"**input `{symbol.name}`** of the graph\n\n" + (
                f"Read by {names}." if names else "Nobody reads it."
            )
        case "output":
            return _output(compile(symbol.path).graph, symbol.name)
        case "graph":
            compilation = compile(symbol.path)
            graph = compilation.graph
            if graph is None:
                return f"**graph `{symbol.name}`**"
            counts = f"{len(graph.activations)} activations of {len(graph.agents)} agents, {len(graph.edges)} edges"
            text = f"**graph `{symbol.name}`**({', '.join(graph.inputs)})\n\n{counts}, `repeat` unrolled."
            return "\n\n".join(filter(None, (text, costs.of_graph(compilation))))


def _reader(index: Index, path: str, mention: Mention) -> str | None:
    """The agent whose prompt a placeholder stands in."""
    file = index.files[path].file
    for node in file.declarations if file else ():
        if isinstance(node, syntax.Agent) and node.span.start <= mention.span.start < node.span.end:
            return node.name.text
    return None


def _output(graph: Graph | None, name: str) -> str:
    givers = {output: agent_of(activation) for output, activation in graph.outputs} if graph else {}
    columns = dict(graph.labels) if graph else {}
    text = f"**output `{name}`** of the graph"
    given = f" given by `{givers[name]}`" if name in givers else ""
    learnt = f"\n\nSupervised by the data column `{columns[name]}`." if name in columns else ""
    return f"{text},{given}{learnt}" if given else text + learnt


def _agent(index: Index, compile: Compile, path: str, symbol: Symbol) -> str | None:
    """An agent as the program has it: this file's, else the first that uses it; a template by itself."""
    for main in dict.fromkeys((path, *index.users.get(symbol, ()), symbol.path)):
        compilation = compile(main)
        graph = compilation.graph
        agent = next((a for a in graph.agents if a.name == symbol.name), None) if graph else None
        if graph is not None and agent is not None:
            target = next((m.target for m in graph.models if m.name == agent.model), None)
            base = Path(main).parent
            facts = compilation.facts.get(agent.model)
            about = describe_agent(agent, target, base, facts, graph, compilation.plan)
            return "\n\n".join(filter(None, (about, costs.of_agent(compilation, agent.name))))
    return _alone(index, symbol)


def _alone(index: Index, symbol: Symbol) -> str | None:
    """A template, or an agent that no program uses: resolved in its own file, fields left as placeholders."""
    file, written = index.files[symbol.path].file, index.declaration(symbol)
    if file is None or not isinstance(written, syntax.Agent):
        return None
    texts = {path: parsed.source.text for path, parsed in index.files.items()}
    program, _ = read_program(file, Path(symbol.path), Path(symbol.path).parent, texts)
    unit = read_units(program.modules, {})[-1]
    home = unit.agents.get(written.name.text)
    if home is None:
        return None
    agent = home.agent
    if agent is None:
        agent = _with_holes(read_template(unit.scope, written, written.name, {}, unit.here), written)
    base = Path(symbol.path).parent
    target = home.model.target if home.model else None
    text = describe_agent(agent, target, base, _facts(target, base) if target else None, None, None)
    if written.fields:
        fields = ", ".join(f"{field.name.text}: {field.type.text}" for field in written.fields)
        text = text.replace("**agent ", "**template ", 1).replace("`** on", f"({fields})`** on", 1)
    return text


def _with_holes(agent: Agent, written: syntax.Agent) -> Agent:
    """A template's agent, made with some values, with its fields as placeholders again."""
    said = {member.role.text: member.prompt.parts for member in written.members if isinstance(member, syntax.Say)}
    holes = {
        role: tuple(Slot(part.name) if isinstance(part, syntax.Placeholder) else part for part in parts)
        for role, parts in said.items()
    }
    fields = {field.name.text for field in written.fields}
    thinks = [member.steps for member in written.members if isinstance(member, syntax.Think)]
    unknown = any(isinstance(steps, syntax.Name) and steps.text in fields for steps in thinks)
    return replace(agent, system=holes.get("system"), user=holes.get("user", ()), steps=0 if unknown else agent.steps)


def _facts(target: str, base: Path) -> ModelFacts | None:
    return check_model(target, base)[0]


def _word(index: Index, compile: Compile, path: str, offset: int) -> Hover | None:
    """A keyword, an option, or a word that an option takes. (In YAML keys say it all.)"""
    if not path.endswith(".mas") or path not in index.files:
        return None
    source = index.files[path].source
    start, end = offset, offset
    while start > 0 and _wordly(source.text[start - 1]):
        start -= 1
    while end < len(source.text) and _wordly(source.text[end]):
        end += 1
    word = source.text[start:end]
    if not word:
        return None
    at = place(source, end)
    if (at.start, at.end) != (start, end):
        return None
    text: str | None = None
    if at.wanted == "channel" and word in CHANNELS:
        compilation = compile(path)
        edges = _edges(compilation, start, CHANNELS[word])
        about = describe_edge(word, CHANNELS[word].help, _links(compilation, edges, CHANNELS[word]))
        text = "\n\n".join([about, *costs.of_edges(compilation, edges)])
    elif at.wanted == "adapter" and word in ADAPTERS:
        text = f"**{word}**: {ADAPTERS[word].help}"
    elif at.wanted == "type" and word in words.TYPES:
        text = f"**{word}**: {words.TYPES[word]}"
    elif at.wanted == "option":
        text = words.about(at.owner, word)
    elif at.wanted == "value":
        text = words.about(at.owner.removesuffix("[]"), at.option)
    elif at.wanted == "entry":
        text = words.about("train", word)
    if text is None and word in at.keywords:
        text = f"**{word}**: {words.KEYWORDS[word]}"
    return Hover(text, start, end) if text else None


def _wordly(char: str) -> bool:
    return char.isalnum() or char == "_"


def _edges(compilation: Compilation, at: int, channel: Channel) -> list[Edge]:
    """The edges on whose line a channel stands."""
    graph, source = compilation.graph, compilation.source
    if graph is None or source is None:
        return []
    line = source.locate(at)[0]
    of_kind = (edge for edge in graph.edges if edge.kind == channel.kind and edge.span.source == source)
    return [edge for edge in of_kind if edge.span.line <= line <= _last_line(edge)]


def _links(compilation: Compilation, edges: list[Edge], channel: Channel) -> dict[str, int]:
    """The trainable parts of edges."""
    graph = compilation.graph
    found: dict[str, int] = {}
    for edge in edges if graph is not None and channel.links is not None else ():
        assert graph is not None
        assert channel.links is not None
        sender, receiver = agent_of(edge.sender), agent_of(edge.receiver)
        left = compilation.facts.get(graph.agent(sender).model)
        right = compilation.facts.get(graph.agent(receiver).model)
        if left and right:
            found[f"{sender} -> {receiver}"] = channel.links(edge, left, right)
    return found


def _last_line(edge: Edge) -> int:
    return edge.span.source.locate(edge.span.end)[0]
