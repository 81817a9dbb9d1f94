"""The syntax tree as text to look at: `masc compile --emit ast`."""

from __future__ import annotations

import json
from dataclasses import fields

from masc.dsl.formatter import format_column
from masc.dsl.syntax import Call, File, List, Literal, Name, Node, Placeholder, Prompt, Range, Table


def dump(file: File, *, spans: bool = True) -> str:
    """One node a line, indented; `spans` adds line:column ranges. Equal trees give equal text without spans."""
    return "\n".join(_node(file, "", spans)) + "\n"


def _node(node: Node, label: str, spans: bool) -> list[str]:
    """A node's lines; what is short enough stands on the first."""
    head = [type(node).__name__.lower()]
    rest: list[str] = []
    for field in fields(node):
        value = getattr(node, field.name)
        if field.name == "span" or not field.compare or value in (None, ()):
            continue
        short = _short(value)
        if short is not None:
            head.append(f"{field.name}={short}")
        elif isinstance(value, Node):
            rest += _node(value, f"{field.name}: ", spans)
        else:
            for item in value:
                rest += _node(item, f"{field.name}: ", spans)
    where = f"  @{_place(node)}" if spans else ""
    return [f"{label}({' '.join(head)}){where}", *("  " + line for line in rest)]


def _short(value: object) -> str | None:
    """A value in a few characters, or None if it wants lines of its own."""
    match value:
        case Name():
            return format_column(value.text)
        case Literal():
            return _short(value.value)
        case Range():
            return f"{value.first}..{value.last}"
        case List():
            return f"[{' '.join(str(_short(item)) for item in value.items)}]"
        case Table():
            return f"({' '.join(f'{entry.name.text}={_short(entry.value)}' for entry in value.entries)})"
        case Call():
            given = " ".join(f"{option.name.text}={_short(option.value)}" for option in value.options)
            return f"{value.name.text}({given})"
        case Prompt():
            parts = (f"{{{part.name}}}" if isinstance(part, Placeholder) else json.dumps(part) for part in value.parts)
            return f"[{' '.join(parts)}]"
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)
        case str():
            return json.dumps(value)
        case tuple() if all(isinstance(item, Name) for item in value):
            return f"[{' '.join(item.text for item in value)}]"
        case _:
            return None


def _place(node: Node) -> str:
    source = node.span.source
    (first, start), (last, end) = source.locate(node.span.start), source.locate(node.span.end)
    return f"{first}:{start}-{end}" if first == last else f"{first}:{start}-{last}:{end}"
