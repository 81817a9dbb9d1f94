"""YAML text to YAML nodes, safely: no objects, no aliases, a bounded depth; and what PyYAML does not keep, the comments
and where the characters of a scalar stand.
"""

from __future__ import annotations

import re

import yaml

from masc.dsl.comments import Comment
from masc.dsl.diagnostics import Diagnostic, Label
from masc.dsl.excerpt import Excerpt
from masc.dsl.source import Source, Span
from masc.dsl.strings import HALF, half_alone
from masc.dsl.tokens import DEEPEST

_COMMENT = re.compile(r"#([^\n\r]*)")
_BLOCK_HEADER = re.compile(r"[|>][^\s#]*[ \t]+#([^\n\r]*)")


_IN_WORDS = (
    (
        "<block mapping start>",
        "this line is indented differently from those around it",
        "let keys of one kind line up",
    ),
    (
        "<block sequence start>",
        "this line is indented differently from those around it",
        "let the `-` of one list line up",
    ),
    (
        "expected <block end>",
        "something follows what is complete already",
        "text that holds YAML's own marks stands in quotes",
    ),
    ("expected ',' or", "a `,` or a closing bracket is missing", None),
    ("mapping values are not allowed", "a second `: ` on this line", "text with a colon in it stands in quotes"),
    ("character '\\t'", "a tab", "YAML is indented with spaces"),
    ("expected alphabetic or numeric", "text cannot begin with this character", "put the text in quotes"),
    ("mapping keys are not allowed", "text cannot begin with this character", "put the text in quotes"),
    ("expected the node content", "something is missing before this", None),
    ("sequence entries are not allowed", "no list can begin here", "text that begins with `-` stands in quotes"),
    ("another document", "a second document begins here", "a file holds one: take `---` out"),
    ("cannot start any token", "text cannot begin with this character", "put the text in quotes"),
    ("expected a comment or a line break", "text stands below `|` and `>`", "put it on lines of its own, or in quotes"),
    ("could not find expected ':'", "a key without a `:`", None),
    ("end of stream", "this is not closed", "close the quotes"),
)
"""What PyYAML says often, in words for who never saw a parser."""


_NO_TAG = "leave it out: masc knows the type of each value from its place and its quotes"
_TAG_HINTS = {"!!str": "leave it out and put the text in quotes", "!": "leave it out and put the text in quotes"}
_TAG_HINTS |= dict.fromkeys(("!!int", "!!float", "!!bool"), "leave it out, and the quotes")
_MARK = re.compile(r"[&*!][^\s,\[\]{}]*")
_HALVES = re.compile(r"\\[uU](?:0000)?[dD][89a-fA-F]")
_NO_CHARACTER = re.compile(r"(?<!\\)(?:\\\\)*(\\U(?!000|0010)[0-9a-fA-F]{8})")
_BREAKS = re.compile("[\x85\u2028\u2029]")
"""What YAML 1.1, and so PyYAML, takes for the end of a line, and neither YAML 1.2 nor an editor does."""
_PAIR = re.compile("([\ud800-\udbff])([\udc00-\udfff])")


class _RefusedError(Exception):
    """What is good YAML but not taken here."""

    def __init__(self, code: str, message: str, event: yaml.Event, hint: str | None = None) -> None:
        self.code, self.message, self.event, self.hint = code, message, event, hint


class _Loader(yaml.SafeLoader):
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent):
            hint = "write it out, or make it a param; text that begins with `*` stands in quotes"
            raise _RefusedError("E0125", "aliases are not supported", event, hint)
        if getattr(event, "anchor", None) is not None:
            hint = "write it out where it is used; text that begins with `&` stands in quotes"
            raise _RefusedError("E0125", "anchors are not supported", event, hint)
        if (tag := getattr(event, "tag", None)) is not None:
            shown = tag.replace("tag:yaml.org,2002:", "!!")[:40]
            raise _RefusedError("E0125", f"the tag `{shown}` is not supported", event, _TAG_HINTS.get(shown, _NO_TAG))
        if self.depth >= DEEPEST:
            raise _RefusedError("E0112", f"collections are nested more than {DEEPEST} deep", event)
        self.depth += 1
        try:
            node: yaml.Node | None = super().compose_node(parent, index)
        finally:
            self.depth -= 1
        return node


def compose(source: Source) -> tuple[yaml.Node | None, list[Diagnostic]]:
    """The root node of a text, None if it is empty or cannot be read; and what is wrong with it."""
    if found := _BREAKS.search(source.text):
        return None, [_unwanted(source, ord(found[0]), found.start())]
    try:
        root = _Loader(source.text).get_single_node()
    except _RefusedError as error:
        mark = _MARK.match(source.text, _marks(error.event)[0])
        span = Span(source, *mark.span()) if mark else node_span(source, error.event)
        return None, [Diagnostic(error.code, error.message, span, hint=error.hint)]
    except yaml.MarkedYAMLError as error:
        return None, [_bad(source, error)]
    except yaml.reader.ReaderError as error:
        return None, [_unwanted(source, error.character, error.position)]
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        # PyYAML lets some of these through, for example from "\UFFFFFFFF".
        if high := _NO_CHARACTER.search(source.text):
            hint = "the last one is `\\U0010FFFF`"
            return None, [
                Diagnostic("E0107", f"`{high[1]}` is not a character", Span(source, *high.span(1)), hint=hint)
            ]
        return None, [Diagnostic("E0120", f"bad YAML: {error or 'it cannot be read'}", _at(source, 0))]
    return root, _join_halves(source, root) if root is not None and _HALVES.search(source.text) else []


def _join_halves(source: Source, root: yaml.Node) -> list[Diagnostic]:
    """Make one character of the two escapes that JSON writes for one outside of the basic plane, as YAML 1.2 reads them
    and PyYAML does not. A half alone is E0107."""
    found, nodes = [], [root]
    while nodes:
        node = nodes.pop()
        if isinstance(node, yaml.MappingNode):
            nodes += [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            nodes += node.value
        elif isinstance(node, yaml.ScalarNode):
            node.value = _PAIR.sub(lambda pair: pair[0].encode("utf-16", "surrogatepass").decode("utf-16"), node.value)
            halves = list(HALF.finditer(node.value))
            places = excerpt(source, node).offsets if halves else None
            for half in halves:
                start = places[half.start()] if places else 0
                width = _written_width(source.text, start, "", double=True, single=False)
                found.append(half_alone(Span(source, start, start + width)))
            node.value = HALF.sub("\ufffd", node.value)
    return found


def _unwanted(source: Source, code: int, offset: int) -> Diagnostic:
    """A character that may not stand in YAML as it is."""
    escape = f"\\u{code:04X}" if code < 0x10000 else f"\\U{code:08X}"
    what = "ends a line for some YAML readers only" if _BREAKS.match(chr(code)) else "is not allowed in YAML as it is"
    hint = None if 0xD800 <= code < 0xE000 else f"in double quotes, write `{escape}`"
    return Diagnostic("E0120", f"bad YAML: the character U+{code:04X} {what}", _at(source, offset), hint=hint)


def _bad(source: Source, error: yaml.MarkedYAMLError) -> Diagnostic:
    """What is wrong, in words; what was not closed, where it begins."""
    problem = error.problem or error.context or "it cannot be read"
    message, hint = next(((said, hint) for part, said, hint in _IN_WORDS if part in problem), (problem, None))
    begun = error.context_mark
    labels: tuple[Label, ...] = ()
    mark = error.problem_mark or begun
    if begun is not None and error.context in ("while scanning a simple key", "while scanning a quoted scalar"):
        mark = begun
    elif begun is not None and (error.context or "").startswith("while parsing a flow"):
        labels = (Label(_at(source, begun.index), "opened here"),)
    span = _at(source, mark.index if mark else 0)
    if "->" in source.line(span.line):
        hint = 'put the statement in quotes: "[a, b] -> c : kv"'
    return Diagnostic("E0120", f"bad YAML: {message}", span, labels, hint)


def _at(source: Source, offset: int) -> Span:
    """One character, or nothing at the end of the text."""
    offset = min(offset, len(source.text))
    return Span(source, offset, min(offset + 1, len(source.text)))


def node_span(source: Source, node: yaml.Node | yaml.Event) -> Span:
    """Where a node stands, without the empty lines and comments that PyYAML counts to the end of blocks."""
    start, end = _marks(node)
    children = node.value if isinstance(node, yaml.CollectionNode) and not node.flow_style else None
    if children:
        last = children[-1][-1] if isinstance(node, yaml.MappingNode) else children[-1]
        return Span(source, start, max(start, node_span(source, last).end))
    return Span(source, start, start + len(source.text[start:end].rstrip()))


def _marks(node: yaml.Node | yaml.Event) -> tuple[int, int]:
    start, end = node.start_mark, node.end_mark
    return (start.index if start else 0), (end.index if end else 0)


def excerpt(source: Source, node: yaml.ScalarNode) -> Excerpt:
    """The value of a scalar, its characters mapped to the text: through quotes, escapes, folding and indentation."""
    text, (at, end) = source.text, _marks(node)
    double, single = node.style == '"', node.style == "'"
    if double or single:
        at, end = at + 1, end - 1
    elif node.style:
        at = min(text.find("\n", at) % (len(text) + 1) + 1, end)
    offsets = []
    for char in node.value:
        while at < end:
            if text[at] == char and not (double and char == "\\"):
                break
            if double and text[at] == "\\":
                if text[at + 1 : at + 2] not in ("\n", "\r"):
                    break
                at += 1
            elif not text[at].isspace() or (char.isspace() and not text[at : at + 2].strip()):
                break
            at += 1
        offsets.append(min(at, end))
        at += _written_width(text, at, char, double, single)
    offsets.append(max(offsets[-1] if offsets else 0, min(at, end)))
    return Excerpt(source, node.value, tuple(offsets))


def _written_width(text: str, at: int, char: str, double: bool, single: bool) -> int:
    """How many characters the text uses at an offset for one of the value's."""
    if double and text[at : at + 1] == "\\":
        width = {"x": 4, "u": 6, "U": 10}.get(text[at + 1 : at + 2], 2)
        halves = char > "\uffff" and _HALVES.match(text, at)
        return width + (_written_width(text, at + width, "", double, single) if halves else 0)
    return 2 if single and text[at : at + 2] == "''" else 1


def comments(source: Source) -> list[Comment]:
    """The comments: what stands after `#` between tokens. (The text composes, so it scans.)"""
    if "#" not in source.text:
        return []
    found, end = [], 0
    for token in yaml.scan(source.text, Loader=yaml.SafeLoader):
        start = token.start_mark.index
        for match in _COMMENT.finditer(source.text, end, max(end, start)):
            found.append(Comment(match.start(), match[1].strip()))
        end = max(end, token.end_mark.index)
        if isinstance(token, yaml.ScalarToken) and token.style in ("|", ">"):
            header = _BLOCK_HEADER.match(source.text, start)
            if header:
                found.append(Comment(header.start(1) - 1, header[1].strip()))
    return found
