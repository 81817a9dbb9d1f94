"""The values in a YAML text: scalars, names, options, and mappings held against the keys that they may have."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import yaml

from masc.dsl import strings
from masc.dsl import syntax as s
from masc.dsl.build import bad_number
from masc.dsl.diagnostics import Diagnostic, Faults, Label, did_you_mean
from masc.dsl.source import Source, Span
from masc.dsl.yaml_meant import CALLED, FORMS, escapes_meant, in_quotes, is_null
from masc.dsl.yaml_text import node_span

_RANGE = re.compile(r"(-?[0-9]+)\.\.(-?[0-9]+)")
_NUMERIC = re.compile(r"-?[0-9.]+([eE][+-]?[0-9]+)?")

Pair = tuple[yaml.ScalarNode, yaml.Node]
In = TypeVar("In")
Out = TypeVar("Out")


class Values:
    """Reads nodes, and notes what is wrong with them."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.diagnostics = Faults()
        self.meant: list[str] = []  # keys that the last mapping has, misspelt: nobody is told that they are missing

    def _value(self, node: yaml.Node) -> s.Value | None:
        span = self._span(node)
        if isinstance(node, yaml.SequenceNode):
            return s.List(span, tuple(each(node.value, self._value)))
        if not isinstance(node, yaml.ScalarNode) or is_null(node):
            self._wrong(node, "a value")
            return None
        text = node.value
        if node.style is not None:
            self.diagnostics += escapes_meant(self.source, node)
            return s.Literal(span, text)
        if text in strings.TRUTHS:
            return s.Literal(span, text == "true")
        if strings.is_name(text):
            return s.Name(span, text)
        if ends := _RANGE.fullmatch(text):
            first, last = strings.number(ends[1]), strings.number(ends[2])
            if isinstance(first, int) and isinstance(last, int):
                return s.Range(span, first, last)
        number = strings.number(text)
        if number is None and _NUMERIC.fullmatch(text):
            self.diagnostics.append(bad_number(text, span))
            return None
        if number is None:
            self.diagnostics += escapes_meant(self.source, node)
        return s.Literal(span, text if number is None else number)

    def _text(self, node: yaml.Node) -> s.Literal | None:
        """A scalar where only a string can stand."""
        if isinstance(node, yaml.ScalarNode) and not is_null(node):
            return s.Literal(self._span(node), node.value)
        self._wrong(node, "text", in_quotes(node, self._span(node).text))
        return None

    def _name(self, node: yaml.Node, hint: str | None = None) -> s.Name | None:
        if not isinstance(node, yaml.ScalarNode) or is_null(node):
            self._wrong(node, "a name")
            return None
        if not strings.is_name(node.value) or node.value in strings.TRUTHS:
            hint = hint or "a name is made of the letters a to z, digits and `_`; `true` and `false` are values"
            self._report("E0111", f"`{node.value[:40]}` cannot be a name", node, hint)
            return None
        return s.Name(self._span(node), node.value)

    def _names(self, node: yaml.Node) -> tuple[s.Name, ...]:
        """A list of names; one alone may stand without brackets."""
        one = isinstance(node, yaml.ScalarNode) and not is_null(node)
        return tuple(each([node] if one else self._items(node), self._name))

    def _options(self, node: yaml.Node, besides: str | None = None) -> tuple[s.Option, ...]:
        return tuple(
            s.Option(self._across(key, value), name, read)
            for key, value, name in self._named(node, "options")
            if name.text != besides and (read := self._option(value))
        )

    def _option(self, node: yaml.Node) -> s.Value | None:
        """The value of an option, which alone may be a table."""
        return self._table(node) if isinstance(node, yaml.MappingNode) else self._value(node)

    def _entry_value(self, node: yaml.Node) -> s.Value | None:
        """The value of an entry of `train`, which alone may be a word with options: `{grpo: {reward: number}}`."""
        if not isinstance(node, yaml.MappingNode):
            return self._value(node)
        if len(node.value) != 1:
            self._wrong(node, "one word with its options", "such as `{grpo: {reward: number}}`")
            return None
        ((key, options),) = node.value
        name = self._name(key)
        return s.Call(self._span(node), name, self._options(options)) if name else None

    def _table(self, node: yaml.Node) -> s.Table | None:
        entries = tuple(
            s.Option(self._across(key, value), name, read)
            for key, value, name in self._named(node, "variables")
            if (read := self._value(value))
        )
        if not entries and not node.value:
            self._wrong(node, "names and values", FORMS["variables"])
        return s.Table(self._span(node), entries) if entries else None

    # YAML's collections

    def _items(self, node: yaml.Node) -> list[yaml.Node]:
        if isinstance(node, yaml.SequenceNode):
            return list(node.value)
        if not is_null(node):
            self._wrong(node, "a list", "a list is `[a, b]`, or lines that begin with `- `")
        return []

    def _entries(self, node: yaml.Node, what: str, known: Sequence[str] | None) -> list[Pair]:
        """The entries of a mapping whose keys are scalars; with `known`, only those that are known."""
        self.meant = []
        if not isinstance(node, yaml.MappingNode):
            if not is_null(node):
                self._wrong(node, "a mapping: `key: value`", FORMS.get(what))
            return []
        entries: dict[str, Pair] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._wrong(key, "a key")
            elif key.value in entries:
                label = Label(self._span(entries[key.value][0]), "first written here")
                message = f"the key `{key.value}` stands here twice"
                self.diagnostics.append(Diagnostic("E0122", message, self._span(key), (label,)))
            elif known is not None and key.value not in known:
                called = CALLED.get(key.value.lower())
                near = f"did you mean `{called}`?" if called in known else did_you_mean(key.value, known)
                hint = near or f"{what} has {', '.join(f'`{word}`' for word in known)}"
                self.meant += [word for word in known if near and f"`{word}`" in near]
                self._report("E0121", f"unknown key `{key.value[:40]}`", key, hint)
            else:
                entries[key.value] = key, value
        return list(entries.values())

    def _by_key(
        self,
        node: yaml.Node,
        what: str,
        known: Sequence[str],
        needed: Sequence[str],
        at: yaml.Node | None = None,
    ) -> dict[str, yaml.Node] | None:
        entries = {key.value: value for key, value in self._entries(node, what, known)}
        return entries if self._has(node, entries, what, needed, at) else None

    def _has(
        self, node: yaml.Node, entries: dict[str, yaml.Node], what: str, needed: Sequence[str], at: yaml.Node | None
    ) -> bool:
        missing = [key for key in needed if key not in entries and key not in self.meant]
        if missing and (isinstance(node, yaml.MappingNode) or is_null(node)):
            words = " and ".join(f"`{key}`" for key in missing)
            first = node.value[0][0] if isinstance(node, yaml.MappingNode) and node.value else node
            self._report("E0124", f"{what} needs {words}", at or first, FORMS.get(what))
        return all(key in entries for key in needed)

    def _named(self, node: yaml.Node, what: str) -> Iterator[tuple[yaml.ScalarNode, yaml.Node, s.Name]]:
        """The entries of a mapping from names that the user chose."""
        for key, value in self._entries(node, what, None):
            if name := self._name(key):
                yield key, value, name

    # places and reports

    def _span(self, node: yaml.Node) -> Span:
        return node_span(self.source, node)

    def _across(self, key: yaml.Node, value: yaml.Node) -> Span:
        span, end = self._span(key), self._span(value).end
        return Span(self.source, span.start, max(span.end, end))

    def _wrong(self, node: yaml.Node, wanted: str, hint: str | None = None) -> None:
        found = "nothing" if is_null(node) else f"`{str(node.value)[:40]}`"
        if isinstance(node, yaml.CollectionNode):
            found = "a list" if isinstance(node, yaml.SequenceNode) else "a mapping"
        self._report("E0123", f"expected {wanted}, found {found}", node, hint)

    def _report(self, code: str, message: str, node: yaml.Node, hint: str | None = None) -> None:
        span = self._span(node)
        if isinstance(node, yaml.CollectionNode):
            first = self.source.text.find("\n", span.start, span.end)
            span = Span(self.source, span.start, span.end if first < 0 else first)
        self.diagnostics.append(Diagnostic(code, message, span, hint=hint))


def each(items: Iterable[In], read: Callable[[In], Out | None]) -> list[Out]:
    """What could be read of each."""
    return [made for item in items if (made := read(item)) is not None]
