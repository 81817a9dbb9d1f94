"""Renaming: the edits of every place that names a thing, held against what they make of the files.

The new texts are read again, and each name must mean what it meant: so a name that is taken, a word of the language, or
anything else that would change the program is refused, whatever the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from masc.compiler.resolve.names import reserved
from masc.dsl.diagnostics import errors
from masc.dsl.source import Span
from masc.dsl.strings import is_name
from masc.lsp.index import Index, Mention, Symbol, build
from masc.lsp.texts import parse


@dataclass(frozen=True)
class Edit:
    """Put a text in the place of a span."""

    span: Span
    text: str


class RefusedError(Exception):
    """A name that cannot be given, or a thing that has none; the message says why."""


def renamable(index: Index, path: str, offset: int) -> Mention:
    """The name at a place. Raises RefusedError."""
    mention = index.at(path, offset)
    if mention is None:
        raise RefusedError("there is no name here that could be changed")
    return mention


def rename(index: Index, path: str, offset: int, new: str) -> dict[str, list[Edit]]:
    """The edits by file. Raises RefusedError where the new name is bad, or would mean something else."""
    mention = renamable(index, path, offset)
    if not is_name(new):
        raise RefusedError(f"`{new}` is not a name: a name is made of the letters a to z, digits and `_`")
    symbols = _together(index, mention.symbols)
    old = next(iter(symbols)).name
    if new == old:
        return {}
    if any(s.kind == "agent" for s in symbols) and (why := reserved(new)) is not None:
        raise RefusedError(f"an agent cannot be called `{new}`: {why}")
    edits: dict[str, list[Edit]] = {}
    for where, place in index.of(symbols):
        if place.span.text != old:
            raise RefusedError(f"`{old}` is written with escapes in `{where}`")
        edits.setdefault(where, []).append(Edit(place.span, new))
    for where in edits:
        if errors(index.files[where].diagnostics):
            raise RefusedError(f"`{where}` has errors in its syntax, so that some places may be missed")
    _hold(index, edits, symbols, new)
    return edits


def _together(index: Index, symbols: frozenset[Symbol]) -> frozenset[Symbol]:
    """All that must be renamed at once: an import brings in everything of a name, and a placeholder in a shared agent
    is an input of several graphs."""
    while True:
        more = frozenset().union(symbols, *(mention.symbols for _, mention in index.of(symbols)))
        if more == symbols:
            return symbols
        symbols = more


def _hold(index: Index, edits: Mapping[str, list[Edit]], symbols: frozenset[Symbol], new: str) -> None:
    old = next(iter(symbols)).name
    files = dict(index.files)
    for path, changed in edits.items():
        files[path] = parse(path, apply(files[path].source.text, changed))
        if wrong := errors(files[path].diagnostics):
            raise RefusedError(f"`{new}` cannot stand in the place of `{old}`: {wrong[0].message}")
    owners = {symbol.name for symbol in symbols if symbol.kind == "agent"}

    def renamed(symbol: Symbol) -> Symbol:
        if symbol in symbols:
            symbol = replace(symbol, name=new)
        agent = Symbol("agent", symbol.owner, symbol.path)
        return replace(symbol, owner=new) if symbol.owner in owners and agent in symbols else symbol

    after = build(files)
    for path, mentions in index.mentions.items():
        expected = [(m.defines, frozenset(map(renamed, m.symbols))) for m in mentions]
        if expected != [(m.defines, m.symbols) for m in after.mentions[path]] or _twice(
            after.mentions[path], symbols, new
        ):
            raise RefusedError(f"`{new}` already means something else in `{path}`")


def _twice(mentions: Iterable[Mention], symbols: frozenset[Symbol], new: str) -> bool:
    """Whether something of the new name is declared twice in a file, or the name is an agent's and an input's or an
    output's at once."""
    found = [s for m in mentions if m.defines for s in m.symbols if s.name == new]
    kinds = {s.kind for s in found}
    clash = "agent" in kinds and kinds & {"input", "output"}
    return len(set(found)) < len(found) or bool(clash and kinds & {s.kind for s in symbols})


def apply(text: str, edits: Iterable[Edit]) -> str:
    """The text after edits that do not overlap."""
    for edit in sorted(edits, key=lambda edit: edit.span.start, reverse=True):
        text = text[: edit.span.start] + edit.text + text[edit.span.end :]
    return text
