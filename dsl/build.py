"""Lark's tree to the syntax tree: one method a rule of the grammar."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lark import Token, Tree

from masc.dsl import strings
from masc.dsl import syntax as s
from masc.dsl.diagnostics import Diagnostic, Faults
from masc.dsl.excerpt import Excerpt
from masc.dsl.source import Span

Kid = Any  # a Token or a Tree: which of them, the grammar says


class Builder:
    """Builds nodes, and reports what the grammar cannot say: escapes, placeholders, numbers."""

    def __init__(self, excerpt: Excerpt) -> None:
        self.excerpt = excerpt
        self.diagnostics = Faults()

    def file(self, tree: Tree[Token]) -> s.File:
        version, *declarations = self._kids(tree)
        number = strings.number(version.children[0])
        kept = tuple(self._item(kid) for kid in _sound(declarations))
        return s.File(self._span(tree), number if isinstance(number, int) else 1, kept)

    def body(self, tree: Tree[Token]) -> tuple[s.Statement, ...]:
        return tuple(self._item(kid) for kid in _sound(self._kids(tree)))

    def _item(self, tree: Kid) -> Any:
        return getattr(self, f"_{tree.data}")(self._span(tree), *tree.children)

    # declarations

    def _import(self, span: Span, path: Token, names: Kid) -> s.Import:
        return s.Import(span, self._string(path), self._names(names))

    def _model(self, span: Span, name: Token, target: Token, options: Kid) -> s.Model:
        return s.Model(span, self._name(name), self._string(target), self._options(options))

    def _param(self, span: Span, name: Token, type: Token, default: Kid) -> s.Param:
        return s.Param(span, self._name(name), self._name(type), self._value(default))

    def _agent(self, span: Span, name: Token, fields: Kid, model: Token, *members: Kid) -> s.Agent:
        declared = tuple(s.Field(self._span(kid), *map(self._name, kid.children)) for kid in fields.children)
        kept = tuple(self._item(kid) for kid in _sound(members))
        return s.Agent(span, self._name(name), declared, self._name(model), kept)

    def _graph(self, span: Span, name: Token, inputs: Kid, outputs: Kid, body: Kid) -> s.Graph:
        return s.Graph(span, self._name(name), self._names(inputs), self._names(outputs), self.body(body))

    def _train(self, span: Span, *entries: Kid) -> s.Train:
        return s.Train(span, tuple(self._item(kid) for kid in _sound(entries)))

    # members of an agent

    def _say(self, span: Span, role: Token, text: Token) -> s.Say:
        start, end = _range(text)
        parts = strings.prompt(self.excerpt, start, end, self.diagnostics.append)
        return s.Say(span, self._name(role), s.Prompt(self._span(text), parts))

    def _think(self, span: Span, steps: Kid, options: Kid) -> s.Think:
        return s.Think(span, self._value(steps), self._options(options))

    def _adapt(self, span: Span, kind: Token, options: Kid, start: Token | None = None) -> s.Adapt:
        begins = None if start is None else self._string(start)
        return s.Adapt(span, self._name(kind), self._options(options), start=begins)

    def _shared(self, span: Span, kind: Token, agent: Token) -> s.Adapt:
        return s.Adapt(span, self._name(kind), (), self._name(agent))

    def _answer(self, span: Span, options: Kid) -> s.Answer:
        return s.Answer(span, self._options(options))

    def _variables(self, span: Span, table: Kid) -> s.Variables:
        return s.Variables(span, self._options(table))

    # statements of a graph

    def _edge(self, span: Span, *kids: Kid) -> s.Edge:
        has_channel = isinstance(kids[-1], Tree) and kids[-1].data == "channel"
        stages = kids[:-1] if has_channel else kids
        return s.Edge(span, tuple(map(self._stage, stages)), self._channel(kids[-1]) if has_channel else None)

    def _stage(self, kid: Kid) -> s.Group:
        return s.Group(self._span(kid), (self._name(kid),) if isinstance(kid, Token) else self._names(kid))

    def _channel(self, tree: Tree[Token]) -> s.Channel:
        kind, options = self._kids(tree)
        return s.Channel(self._span(tree), self._name(kind), self._options(options))

    def _instance(self, span: Span, name: Token, template: Token, *arguments: Kid) -> s.Instance:
        return s.Instance(span, self._name(name), self._name(template), tuple(map(self._value, arguments)))

    def _lone(self, span: Span, name: Token) -> s.Lone:
        return s.Lone(span, self._name(name))

    def _repeat(self, span: Span, count: Kid, body: Kid) -> s.Repeat:
        return s.Repeat(span, self._value(count), self.body(body))

    # entries of `train`

    def _supervise(self, span: Span, output: Token, column: Token) -> s.Supervise:
        if column.type != "STRING":
            return s.Supervise(span, self._name(output), self._name(column))
        text = strings.string(self.excerpt, *_range(column), self.diagnostics.append)
        return s.Supervise(span, self._name(output), s.Name(self._span(column), text))

    def _setting(self, span: Span, name: Token, value: Kid) -> s.Setting:
        return s.Setting(span, self._name(name), self._value(value))

    # what they are made of

    def _options(self, tree: Kid) -> tuple[s.Option, ...]:
        made = []
        for option in tree.children:
            name, value, *qualifier = option.children
            word = self._name(qualifier[0]) if qualifier else None
            made.append(s.Option(self._span(option), self._name(name), self._value(value), word))
        return tuple(made)

    def _value(self, kid: Kid) -> s.Value:
        span = self._span(kid)
        match kid.type if isinstance(kid, Token) else kid.data:
            case "NAME":
                return self._name(kid)
            case "STRING":
                return self._string(kid)
            case "TRUE" | "FALSE":
                return s.Literal(span, kid == "true")
            case "NUMBER":
                return s.Literal(span, self._number(kid))
            case "range":
                first, last = (self._number(end) for end in kid.children)
                if isinstance(first, int) and isinstance(last, int):
                    return s.Range(span, first, last)
                self.diagnostics.append(Diagnostic("E0109", "the ends of a range are whole numbers", span))
                return s.Range(span, 0, 0)
            case "table":
                return s.Table(span, self._options(kid))
            case "call":
                name, given = kid.children
                return s.Call(span, self._name(name), self._options(given))
            case _:
                return s.List(span, tuple(map(self._value, kid.children)))

    def _number(self, token: Token) -> int | float:
        value = strings.number(token)
        if value is None:
            self.diagnostics.append(bad_number(token, self._span(token)))
            return 0
        return value

    def _string(self, token: Token) -> s.Literal:
        value = strings.string(self.excerpt, *_range(token), self.diagnostics.append)
        return s.Literal(self._span(token), value)

    def _name(self, token: Token) -> s.Name:
        return s.Name(self._span(token), str(token))

    def _names(self, tree: Kid) -> tuple[s.Name, ...]:
        return tuple(map(self._name, tree.children))

    def _span(self, kid: Kid) -> Span:
        return self.excerpt.span(*_range(kid))

    def _kids(self, tree: Tree[Token]) -> list[Kid]:
        return list(tree.children)


def bad_number(text: str, span: Span) -> Diagnostic:
    """What to say of something that begins like a number and is none."""
    if "_" in text and strings.number(text.replace("_", "")) is not None:
        hint = f"write {text.replace('_', '')}"
    elif text.startswith((".", "-.")):
        hint = "write a digit before the point: 0.5"
    elif text.endswith("."):
        hint = "write a digit after the point: 1.0"
    else:
        hint = "numbers look like 8, -1, 0.05, 2e-4 and have at most 64 bits; a name starts with a letter"
    return Diagnostic("E0109", f"`{text[:40]}` is not a number", span, hint=hint)


def _range(kid: Kid) -> tuple[int, int]:
    """Where a token or tree starts and ends; a tree of nothing stands at 0, and nobody asks for its span."""
    at = kid if isinstance(kid, Token) else kid.meta
    return getattr(at, "start_pos", 0), getattr(at, "end_pos", 0)


def _sound(kids: Sequence[Kid]) -> list[Kid]:
    """The items that could be read. A name or an edge that something unreadable cuts short is left out."""
    following = [*kids[1:], None]
    return [
        kid
        for kid, after in zip(kids, following, strict=False)
        if isinstance(kid, Tree) and not (isinstance(after, Token) and _cut_short(kid))
    ]


def _cut_short(tree: Tree[Token]) -> bool:
    last = tree.children[-1] if tree.children else None
    return tree.data == "lone" or (tree.data == "edge" and not (isinstance(last, Tree) and last.data == "channel"))
