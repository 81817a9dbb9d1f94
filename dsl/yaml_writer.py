"""The canonical style of the YAML form: what `masc fmt` writes for `.yaml`, and `masc fmt --to yaml`.

YAML wants its keys in groups and once each, so declarations come out by kind (imports, models, params, agents, graph,
train), and what supervises outputs together. The tree is the same but for that order; where YAML cannot say it (two
graphs, a name twice) it is refused, E0135. Comments keep their text, and empty lines stay where `.mas` has them. A
comment at the end of a block goes to what follows, for in YAML it stands there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby, zip_longest
from typing import TypeVar

from masc.dsl.diagnostics import Diagnostic, MascError, errors
from masc.dsl.dump import dump
from masc.dsl.formatter import (
    INDENT,
    LONGEST_LINE,
    format_braces,
    format_channel,
    format_stages,
    format_value,
    without_ends,
    written_comments,
)
from masc.dsl.source import Source
from masc.dsl.syntax import (
    CHILDREN,
    Adapt,
    Agent,
    Answer,
    Block,
    Call,
    Comments,
    Declaration,
    Edge,
    File,
    Graph,
    Import,
    Instance,
    Item,
    List,
    Literal,
    Lone,
    Member,
    Model,
    Name,
    Option,
    Param,
    Prompt,
    Repeat,
    Say,
    Setting,
    Statement,
    Supervise,
    Table,
    Think,
    Train,
    Value,
    Variables,
)

_ORDER: tuple[type[Declaration], ...] = (Import, Model, Param, Agent, Graph, Train)
_GROUPS: dict[type[Declaration], str] = {Import: "imports", Model: "models", Param: "params", Agent: "agents"}
_TYPES = {bool: "bool", int: "int", float: "float", str: "text"}
_NULLS = ("null", "Null", "NULL")
_WORD = re.compile(r"[A-Za-z0-9][\w./-]*", re.ASCII)
_PROSE = re.compile(r"[A-Za-z](?:(?!: | #)[ -~])*(?<![: ])")
_STATEMENT = re.compile(r'[A-Za-z_](?:[\w \[\],=()."<>{}$%/+*-]|(?<=[\w\]]) *: (?=\w))*', re.ASCII)
_LONGEST_KEY = 1000  # YAML looks no further for the colon

Some = TypeVar("Some", bound=Item)


def format_yaml(file: File) -> str:
    """The whole file in the canonical style, with its comments. Raises MascError (E0135) for what YAML cannot say."""
    ordered = in_yaml_order(file)
    text = "\n".join(without_ends(list(_file(_settle(ordered))))) + "\n"
    _hold(ordered, text)
    return text


def in_yaml_order(file: File) -> File:
    """The same declarations and entries in the order in which YAML has them."""
    declarations: list[Declaration] = []
    for item in sorted(file.declarations, key=lambda item: _ORDER.index(type(item))):
        if isinstance(item, Train):
            item = replace(item, entries=_together(item.entries))
        declarations.append(item)
    return replace(file, declarations=tuple(declarations))


def _together(entries: tuple[Supervise | Setting, ...]) -> tuple[Supervise | Setting, ...]:
    """What supervises stands together, where the first of it stood."""
    first = next((i for i, entry in enumerate(entries) if isinstance(entry, Supervise)), len(entries))
    rest = entries[first:]
    return (*entries[:first], *sorted(rest, key=lambda entry: isinstance(entry, Setting)))


def _hold(file: File, text: str) -> None:
    """Read what was written: E0135 at the first declaration that does not come back."""
    from masc.dsl.yaml_reader import parse_yaml

    again, found = parse_yaml(Source("again.yaml", text))
    read = () if again is None else again.declarations
    if (
        again is not None
        and again == file
        and not errors(found)
        and dump(again, spans=False) == dump(file, spans=False)
    ):
        return
    lost = next((a for a, b in zip_longest(file.declarations, read) if a is not None and a != b), None)
    why = f": {errors(found)[0].message}" if errors(found) else ""
    span = file.span if lost is None else lost.span
    hint = "YAML has one graph, one `train`, each name once, and no spaces at the end of a prompt's empty lines"
    raise MascError([Diagnostic("E0135", f"this cannot be written as YAML{why}", span, hint=hint)])


# Comments, where YAML has a place for them


def _settle(file: File) -> File:
    """The file with every comment before an item, beside it, or at the end: none at the end of a block."""
    pending: list[str | None] = []

    def settle(item: Some) -> Some:
        above = (*pending, *item.leading)
        pending.clear()
        changes: dict[str, object] = {}
        if isinstance(item, Say) and item.trailing is not None and _scalar(item.prompt)[1:]:
            above, changes["trailing"] = (
                (*above, item.trailing),
                None,
            )  # beside a prompt of several lines none can stand
        if isinstance(item, Block):
            name = CHILDREN[type(item)]
            changes[name] = tuple(settle(child) for child in getattr(item, name))
            changes["inner"] = ()
            pending.extend(item.inner)
        return replace(item, leading=above, **changes)  # type: ignore[arg-type]

    declarations = tuple(settle(declaration) for declaration in file.declarations)
    return replace(file, declarations=declarations, trailer=(*pending, *file.trailer))


def _comments(comments: Comments) -> list[str]:
    return written_comments(tuple(None if text is None else _visible(text) for text in comments))


def _line(item: Item, text: str) -> list[str]:
    beside = "" if item.trailing is None else f"  # {_visible(item.trailing)}".rstrip()
    return [*_comments(item.leading), text + beside]


def _visible(text: str) -> str:
    """A comment without characters that YAML refuses or takes for a line's end."""
    return "".join(char if char.isprintable() or char == "\t" else "?" for char in text)


# Declarations


def _file(file: File) -> Iterator[str]:
    yield from _comments(file.header)
    yield "mas: 1" + ("" if file.trailing is None else f"  # {_visible(file.trailing)}".rstrip())
    for kind, items in groupby(file.declarations, key=type):
        yield ""
        if kind in _GROUPS:
            yield f"{_GROUPS[kind]}:"
            for number, item in enumerate(items):
                lines = _indented(_declaration(item))
                apart = not number or kind is Agent
                yield from ["", *without_ends(lines)][not number :] if apart else lines
        else:
            for item in items:
                yield from without_ends(_declaration(item))
    if file.trailer:
        yield ""
        yield from without_ends(_comments(file.trailer))


def _declaration(item: Declaration) -> list[str]:
    match item:
        case Import():
            names = ", ".join(map(_name, item.names))
            return _line(item, f"- {{from: {_text(item.path.value)}, names: [{names}]}}")
        case Model() if item.options:
            target = f"from: {_text(item.target.value)}"
            return _line(item, f"{_name(item.name)}: {{{target}, {_options(item.options)}}}")
        case Model():
            return _line(item, f"{_name(item.name)}: {_text(item.target.value)}")
        case Param():
            return _line(item, f"{_name(item.name)}: {_param(item)}")
        case Agent():
            fields = ", ".join(f"{_name(field.name)}: {_name(field.type)}" for field in item.fields)
            head = [f"on: {_name(item.model)}", *([f"fields: {{{fields}}}"] if fields else [])]
            members = [line for member in item.members for line in _member(member)]
            return [*_line(item, f"{_name(item.name)}:"), *_indented([*head, *members])]
        case Graph():
            head = [f"name: {_name(item.name)}"]
            head += [f"inputs: {_list(item.inputs)}"] if item.inputs else []
            head.append(f"outputs: {_list(item.outputs)}")
            body = _indented(without_ends(_statements(item.body)))
            return [*_line(item, "graph:"), *_indented([*head, *(["body:", *body] if body else [])])]
        case Train():
            entries = without_ends(list(_entries(item.entries)))
            return [*_line(item, "train:"), *_indented(entries)]


def _param(item: Param) -> str:
    value = item.default
    if isinstance(value, Literal) and item.type.text == _TYPES[type(value.value)]:
        return _value(value)
    return f"{{type: {_name(item.type)}, default: {_value(value)}}}"


def _member(member: Member) -> list[str]:
    match member:
        case Say():
            first, *more = _scalar(member.prompt)
            return [*_line(member, f"{member.role.text}: {first}"), *_indented(more)]
        case Think() if member.options:
            options = _options(member.options)
            return _line(member, f"think: {{steps: {_value(member.steps)}, {options}}}")
        case Think():
            return _line(member, f"think: {_value(member.steps)}")
        case Adapt(of=Name() as of):
            return _line(member, f"adapt: {{{_name(member.kind)}: {_name(of)}}}")
        case Adapt() if member.options or member.start:
            start = f", from: {_value(member.start)}" if member.start else ""
            return _line(member, f"adapt: {{{_name(member.kind)}: {{{_options(member.options)}}}{start}}}")
        case Adapt():
            return _line(member, f"adapt: {_name(member.kind)}")
        case Answer():
            return _line(member, f"answer: {{{_options(member.options)}}}")
        case Variables():
            return _line(member, f"template: {{{_options(member.options)}}}")


def _statements(body: Sequence[Statement]) -> list[str]:
    lines: list[str] = []
    for statement in body:
        if isinstance(statement, Repeat):
            lines += _line(statement, f"- repeat: {_value(statement.count)}")
            inner = _indented(without_ends(_statements(statement.body)))
            lines += _indented(["body:", *inner] if inner else ["body: []"])
        else:
            lines += _line(statement, f"- {_statement(statement)}")
    return lines


def _statement(statement: Edge | Instance | Lone) -> str:
    """As in `.mas`, in single quotes where YAML would see something else."""
    match statement:
        case Edge(channel=channel):
            text = format_stages(statement.stages) + (f" : {format_channel(channel)}" if channel else "")
        case Instance():
            arguments = ", ".join(map(format_value, statement.arguments))
            text = f"{statement.name.text} = {statement.template.text}({arguments})"
        case Lone():
            text = statement.name.text
    plain = _STATEMENT.fullmatch(text) and len(text) < _LONGEST_KEY and text not in _NULLS
    return text if plain else "'" + text.replace("'", "''") + "'"


def _entries(entries: Sequence[Supervise | Setting]) -> Iterator[str]:
    before: Supervise | Setting | None = None
    for entry in entries:
        if isinstance(entry, Supervise):
            lines = _line(entry, f"{_name(entry.output)}: {_text(entry.column.text)}")
            if not isinstance(before, Supervise):  # what stands above the first one is above them all
                yield from [*lines[:-1], "supervise:"]
                lines = lines[-1:]
            yield from _indented(lines)
        else:
            value = entry.value
            text = _text(value.value) if entry.name.text == "data" and isinstance(value, Literal) else _value(value)
            yield from _line(entry, f"{_name(entry.name)}: {text}")
        before = entry


# Values


def _name(name: Name) -> str:
    return f'"{name.text}"' if name.text in _NULLS else name.text


def _list(names: Iterable[Name]) -> str:
    return f"[{', '.join(map(_name, names))}]"


def _options(options: Iterable[Option]) -> str:
    return ", ".join(f"{_name(option.name)}: {_value(option.value)}" for option in options)


def _value(value: Value) -> str:
    match value:
        case Literal(value=str() as text):
            return _quoted(text)
        case List():
            return f"[{', '.join(map(_value, value.items))}]"
        case Table():
            return f"{{{_options(value.entries)}}}"
        case Call():
            return f"{{{_name(value.name)}: {{{_options(value.options)}}}}}"
        case _:
            return format_value(value)


def _text(value: object) -> str:
    """A value where only a string can stand: without quotes if it is one plain word."""
    text = str(value)
    return text if _WORD.fullmatch(text) and text not in _NULLS else _quoted(text)


def _quoted(text: str) -> str:
    plain = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{"".join(char if char == " " or char.isprintable() else _code(char) for char in plain)}"'


def _code(char: str) -> str:
    return f"\\u{ord(char):04X}" if ord(char) < 0x10000 else f"\\U{ord(char):08X}"


def _scalar(prompt: Prompt) -> list[str]:
    """A prompt: what follows its key, and the lines below that."""
    text = format_braces(prompt)
    lines = text.split("\n")
    if len(lines) == 1 and len(text) <= LONGEST_LINE and _PROSE.fullmatch(text) and text not in _NULLS:
        return [text]
    fits = all(line == line.rstrip() and line.replace("\t", " ").isprintable() for line in lines)
    if fits and lines[0] and (len(lines) > 1 or len(text) > LONGEST_LINE):
        return ["|", *lines]
    return [_quoted(text)]


def _indented(lines: Iterable[str]) -> list[str]:
    return [INDENT + line if line else "" for line in lines]
