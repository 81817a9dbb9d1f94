"""The canonical style: what `masc fmt` writes.

Two spaces a level, one item a line, an empty line around blocks. A prompt is `"..."` if it is one short line, otherwise
a `\"\"\"` block. Formatting keeps the tree and every comment, and what it writes it leaves as it is. Elsewhere an empty
line is the writer's choice: between items and comments one stays, several become one; at the ends of a block none does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence

from masc.dsl.strings import TRUTHS, is_name
from masc.dsl.syntax import (
    Adapt,
    Agent,
    Answer,
    Block,
    Call,
    Channel,
    Comments,
    Declaration,
    Edge,
    File,
    Graph,
    Group,
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
    Placeholder,
    Prompt,
    Range,
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

INDENT = "  "
LONGEST_LINE = 100  # a prompt of one line that would reach further becomes a block
WIDEST_COLUMN = 48  # a column is not aligned any further to the right


def format_file(file: File) -> str:
    """The whole file in the canonical style, with its comments."""
    lines = [*written_comments(file.header), f"mas {file.version}{_trailing(file.trailing)}"]
    previous: Declaration | None = None
    for item in file.declarations:
        # Imports stand together, models and params too, everything else apart.
        apart = not previous or isinstance(item, Block) or _apart(previous) != _apart(item)
        written = _declaration(item)
        lines += ["", *without_ends(written)] if apart else written
        previous = item
    if file.trailer:
        lines += ["", *without_ends(written_comments(file.trailer))]
    return "\n".join(without_ends(lines)) + "\n"


def _apart(item: Declaration) -> str:
    return "import" if isinstance(item, Import) else "block" if isinstance(item, Block) else "line"


def format_value(value: Value) -> str:
    """A value as it is written: `10`, `"text"`, `0..9`, `[a, b]`, `grpo(group = 8)`."""
    match value:
        case Name():
            return value.text
        case Range():
            return f"{value.first}..{value.last}"
        case List():
            return f"[{', '.join(map(format_value, value.items))}]"
        case Table():
            return format_options(value.entries)
        case Call():
            return value.name.text + (format_options(value.options) or "()")
        case Literal(value=bool() as truth):
            return "true" if truth else "false"
        case Literal(value=str() as text):
            return format_string(text)
        case Literal(value=float() as real):
            return _float(real)
        case Literal():
            return str(value.value)


def format_string(text: str) -> str:
    """A string in double quotes with JSON's escapes; everything that can be seen stays as it is."""
    return f'"{_escaped(text)}"'


def format_column(name: str) -> str:
    """A column of the data: bare where it is a name of the language, else in quotes."""
    return name if is_name(name) and name not in TRUTHS else format_string(name)


def format_options(options: Sequence[Option]) -> str:
    """`(carry = own, open = 40 as trace)`, or nothing if there are none."""
    return f"({', '.join(map(_option, options))})" if options else ""


def format_channel(channel: Channel) -> str:
    """`kv(carry = own)`."""
    return channel.kind.text + format_options(channel.options)


def format_stages(stages: Iterable[Group]) -> str:
    """`planner -> [maths, physics]`."""
    return " -> ".join(s.names[0].text if len(s.names) == 1 else f"[{_names(s.names)}]" for s in stages)


def format_prompt(prompt: Prompt) -> str:
    """A prompt on one line, in double quotes."""
    return format_string(format_braces(prompt))


def format_braces(prompt: Prompt) -> str:
    """A prompt's text with its placeholders, and its other braces doubled; no escapes."""
    return "".join(map(_part, prompt.parts))


def _option(option: Option) -> str:
    qualifier = f" as {option.qualifier.text}" if option.qualifier else ""
    return f"{option.name.text} = {format_value(option.value)}{qualifier}"


def _names(names: Iterable[Name]) -> str:
    return ", ".join(name.text for name in names)


def _float(real: float) -> str:
    """The shortest digits that give the same number; small ones as 2e-4."""
    if real and abs(real) <= 1e-3:
        shortest = next(text for digits in range(18) if float(text := f"{real:.{digits}e}") == real)
        mantissa, exponent = shortest.split("e")
        return f"{mantissa}e{int(exponent)}"
    return repr(real)


# Strings


def _escaped(text: str) -> str:
    plain = json.dumps(text, ensure_ascii=False)[1:-1]
    return "".join(char if char == " " or char.isprintable() else _code(char) for char in plain)


def _code(char: str) -> str:
    """A character as `\\uXXXX`, two of them outside of the basic plane."""
    return json.dumps(char).strip('"') if ord(char) > 0x7E else f"\\u{ord(char):04x}"


def _part(part: str | Placeholder) -> str:
    """A part of a prompt with its braces as they are written; escapes come after."""
    return f"{{{part.name}}}" if isinstance(part, Placeholder) else part.replace("{", "{{").replace("}", "}}")


def _block_lines(prompt: Prompt) -> list[str]:
    """The lines of a prompt between triple quotes. Spaces at an end of a line that somebody might trim are escaped."""
    lines = []
    for line in format_braces(prompt).split("\n"):
        written = _escaped(line).replace('\\"', '"').replace('""', '"\\"')
        lines.append(re.sub(r" $", r"\\u0020", written))
    return lines


# Items


def _declaration(item: Declaration) -> list[str]:
    match item:
        case Import():
            return _line(item, f"import {format_value(item.path)} ({_names(item.names)})")
        case Model():
            return _line(item, f"model {item.name.text} = {format_value(item.target)}{_spaced(item.options)}")
        case Param():
            return _line(item, f"param {item.name.text}: {item.type.text} = {format_value(item.default)}")
        case Agent():
            fields = ", ".join(f"{field.name.text}: {field.type.text}" for field in item.fields)
            head = f"agent {item.name.text}{f'({fields})' if fields else ''} on {item.model.text}"
            return _block(item, head, [line for member in item.members for line in _member(member)])
        case Graph():
            head = f"graph {item.name.text}({_names(item.inputs)}) -> {_names(item.outputs)}"
            return _block(item, head, _statements(item.body))
        case Train():
            return _block(item, "train", _entries(item.entries))


def _member(member: Member) -> list[str]:
    """A member of an agent; the keywords take six columns, so that what follows is aligned."""
    match member:
        case Say():
            return _say(member)
        case Think():
            return _line(member, f"think  {format_value(member.steps)}{_spaced(member.options)}")
        case Adapt():
            of = f" {member.of.text}" if member.of else ""
            start = f" from {format_value(member.start)}" if member.start else ""
            return _line(member, f"adapt  {member.kind.text}{of}{format_options(member.options)}{start}")
        case Answer():
            return _line(member, f"answer{_spaced(member.options)}")
        case Variables():
            return _line(member, f"template{_spaced(member.options)}")


def _say(say: Say) -> list[str]:
    keyword = f"{say.role.text:<6} "
    short = keyword + format_prompt(say.prompt)
    many_lines = any(isinstance(part, str) and "\n" in part for part in say.prompt.parts)
    if not many_lines and len(INDENT + short) <= LONGEST_LINE:
        return _line(say, short)
    indent = " " * len(keyword)
    body = [indent + line if line else "" for line in _block_lines(say.prompt)]
    # Nothing but the prompt may follow the quotes: a comment at the end of the line goes above.
    return [*written_comments(_above(say)), f'{keyword}"""', *body, f'{indent}"""']


def _statements(body: Sequence[Statement]) -> list[str]:
    """The statements of a graph; neighbours of a kind have their `:` or `=` in one column."""
    left = [_left(statement) for statement in body]
    lines: list[str] = []
    for i, (statement, width) in enumerate(zip(body, _columns(body, left), strict=True)):
        match statement:
            case Edge():
                channel = f"{left[i]:<{width}} : {format_channel(statement.channel)}" if statement.channel else left[i]
                lines += _line(statement, channel)
            case Instance():
                arguments = ", ".join(map(format_value, statement.arguments))
                lines += _line(statement, f"{left[i]:<{width}} = {statement.template.text}({arguments})")
            case Lone():
                lines += _line(statement, left[i])
            case Repeat():
                lines += _block(statement, left[i], _statements(statement.body))
    return lines


def _left(statement: Statement) -> str:
    match statement:
        case Edge():
            return format_stages(statement.stages)
        case Repeat():
            return f"repeat {format_value(statement.count)}"
        case Instance() | Lone():
            return statement.name.text


def _columns(body: Sequence[Statement], left: Sequence[str]) -> list[int]:
    """How wide the left side is among a statement's neighbours of its kind; what is very wide takes no part."""
    run, runs, widths = 0, [], {0: 0}
    for i, statement in enumerate(body):
        if i and (statement.leading or type(statement) is not type(body[i - 1])):
            run += 1
        alone = isinstance(statement, Edge) and not statement.channel
        width = 0 if alone or len(left[i]) > WIDEST_COLUMN else len(left[i])
        widths[run] = max(width, widths.get(run, 0))
        runs.append(run)
    return [widths[run] for run in runs]


def _entries(entries: Sequence[Supervise | Setting]) -> list[str]:
    lines: list[str] = []
    for entry in entries:
        if isinstance(entry, Supervise):
            lines += _line(entry, f"{entry.output.text} <- {format_column(entry.column.text)}")
        else:
            lines += _line(entry, f"{entry.name.text} {format_value(entry.value)}")
    return lines


def _spaced(options: Sequence[Option]) -> str:
    return f" {format_options(options)}" if options else ""


# Lines and comments


def _line(item: Item, text: str) -> list[str]:
    return [*written_comments(item.leading), text + _trailing(item.trailing)]


def _block(block: Block, head: str, body: list[str]) -> list[str]:
    inner = without_ends([*body, *written_comments(block.inner)])
    return [*_line(block, f"{head} {{"), *_indented(inner), "}"]


def _indented(lines: Iterable[str]) -> list[str]:
    return [INDENT + line if line else "" for line in lines]


def _above(item: Item) -> Comments:
    return item.leading if item.trailing is None else (*item.leading, item.trailing)


def written_comments(comments: Comments) -> list[str]:
    """The lines of comments; several empty ones are one."""
    lines = ["" if text is None else f"# {text}".rstrip() for text in comments]
    return [line for line, before in zip(lines, ["#", *lines], strict=False) if line or before]


def without_ends(lines: list[str]) -> list[str]:
    """Lines without the empty ones at both ends."""
    full = [i for i, line in enumerate(lines) if line]
    return lines[full[0] : full[-1] + 1] if full else []


def _trailing(text: str | None) -> str:
    return "" if text is None else f"  # {text}".rstrip()
