"""A file's declarations as an outline: what the editor's list of symbols shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from masc.compiler.resolve.templates import instances
from masc.dsl import syntax
from masc.dsl.formatter import format_channel, format_column, format_options, format_stages, format_value
from masc.dsl.source import Span

Sort = Literal["import", "model", "param", "agent", "template", "member", "graph", "edge", "repeat", "train", "setting"]


@dataclass(frozen=True)
class Entry:
    """`span`: the whole of it; `name_span`: what is selected when it is chosen."""

    name: str
    detail: str
    sort: Sort
    span: Span
    name_span: Span
    children: tuple[Entry, ...] = ()


def outline(file: syntax.File) -> tuple[Entry, ...]:
    """The declarations of a file, in its order."""
    return tuple(_declaration(item) for item in file.declarations)


def _declaration(item: syntax.Declaration) -> Entry:
    match item:
        case syntax.Import():
            names = ", ".join(name.text for name in item.names)
            return Entry(f"import {format_value(item.path)}", names, "import", item.span, item.path.span)
        case syntax.Model():
            detail = format_value(item.target) + (f" {format_options(item.options)}" if item.options else "")
            return Entry(item.name.text, detail, "model", item.span, item.name.span)
        case syntax.Param():
            detail = f"{item.type.text} = {format_value(item.default)}"
            return Entry(item.name.text, detail, "param", item.span, item.name.span)
        case syntax.Agent():
            fields = ", ".join(f"{field.name.text}: {field.type.text}" for field in item.fields)
            detail = f"({fields}) on {item.model.text}" if fields else f"on {item.model.text}"
            members = tuple(map(_member, item.members))
            return Entry(item.name.text, detail, "template" if fields else "agent", item.span, item.name.span, members)
        case syntax.Graph():
            ins, outs = (", ".join(name.text for name in names) for names in (item.inputs, item.outputs))
            made = tuple(
                Entry(i.name.text, f"= {i.template.text}(...)", "agent", i.span, i.name.span)
                for i in instances(item.body)
            )
            children = (*made, *_statements(item.body))
            return Entry(item.name.text, f"({ins}) -> {outs}", "graph", item.span, item.name.span, children)
        case syntax.Train():
            return Entry("train", "", "train", item.span, item.span, tuple(map(_entry, item.entries)))


def _member(member: syntax.Member) -> Entry:
    match member:
        case syntax.Say():
            return Entry(member.role.text, "", "member", member.span, member.role.span)
        case syntax.Think():
            return Entry("think", format_value(member.steps), "member", member.span, member.span)
        case syntax.Adapt():
            return Entry("adapt", member.kind.text, "member", member.span, member.span)
        case syntax.Answer():
            return Entry("answer", "", "member", member.span, member.span)
        case syntax.Variables():
            return Entry("template", format_options(member.options), "member", member.span, member.span)


def _statements(body: Sequence[syntax.Statement]) -> Iterator[Entry]:
    for item in body:
        if isinstance(item, syntax.Edge):
            channel = format_channel(item.channel) if item.channel else ""
            yield Entry(format_stages(item.stages), channel, "edge", item.span, item.span)
        elif isinstance(item, syntax.Repeat):
            inner = tuple(_statements(item.body))
            yield Entry(f"repeat {format_value(item.count)}", "", "repeat", item.span, item.span, inner)


def _entry(entry: syntax.Supervise | syntax.Setting) -> Entry:
    if isinstance(entry, syntax.Supervise):
        column = f"<- {format_column(entry.column.text)}"
        return Entry(entry.output.text, column, "setting", entry.span, entry.output.span)
    return Entry(entry.name.text, format_value(entry.value), "setting", entry.span, entry.name.span)
