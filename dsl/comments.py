"""Comments find the nodes that they belong to.

Both readers build the tree without comments and attach them here, by where they stand; none is lost:

- at the end of a line: to the first item that starts on the line, as its trailing comment;
- in the middle of an item, or at the end of its last line: to the item, as a leading one;
- on lines of their own: to the next item of the block, or to the block's end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TypeVar

from masc.dsl.syntax import (
    Agent,
    Block,
    Declaration,
    File,
    Graph,
    Item,
    Member,
    Repeat,
    Setting,
    Statement,
    Supervise,
    Train,
)

Child = Declaration | Member | Statement | Supervise | Setting
Some = TypeVar("Some", bound=Child)


@dataclass(frozen=True)
class Comment:
    """A comment's text and the offset of its `#` in the source."""

    start: int
    text: str


@dataclass
class _Notes:
    leading: list[str] = field(default_factory=list)
    trailing: str | None = None
    inner: list[str] = field(default_factory=list)


def attach(file: File, comments: Iterable[Comment]) -> File:
    """The same tree with each comment at the node that it belongs to."""
    comments = sorted(set(comments), key=lambda comment: comment.start)
    if not comments:
        return file
    source = file.span.source
    items = sorted(_walk(file.declarations), key=lambda item: (item.span.start, -item.span.end))
    first_on: dict[int, Item] = {}
    ends_on: dict[int, list[Item]] = {}
    for item in items:
        first_on.setdefault(item.span.line, item)
        ends_on.setdefault(source.locate(item.span.end)[0], []).append(item)
    notes = {id(item): _Notes() for item in items}
    header, trailer, version = [], [], None

    for comment in comments:
        line = source.locate(comment.start)[0]
        beside = first_on.get(line)
        if beside and beside.span.start < comment.start and notes[id(beside)].trailing is None:
            notes[id(beside)].trailing = comment.text
            continue
        if line == file.span.line and comment.start > file.span.start and version is None:
            version = comment.text
            continue
        around = [item for item in ends_on.get(line, ()) if item.span.start < comment.start]
        around = around or [item for item in items if item.span.start < comment.start < item.span.end]
        home = around[-1] if around else None
        if home and not isinstance(home, Block):
            notes[id(home)].leading.append(comment.text)
            continue
        children = _children(home) if home else file.declarations
        following = [child for child in children if child.span.start > comment.start]
        if following and (home or comment.start > file.span.start):
            notes[id(min(following, key=lambda child: child.span.start))].leading.append(comment.text)
        elif home:
            notes[id(home)].inner.append(comment.text)
        elif comment.start < file.span.start:
            header.append(comment.text)
        else:
            trailer.append(comment.text)

    declarations = tuple(_noted(item, notes) for item in file.declarations)
    return replace(file, declarations=declarations, header=tuple(header), trailer=tuple(trailer), trailing=version)


def _children(item: Item) -> tuple[Child, ...]:
    match item:
        case Agent():
            return item.members
        case Graph() | Repeat():
            return item.body
        case Train():
            return item.entries
        case _:
            return ()


def _walk(items: Iterable[Child]) -> Iterator[Item]:
    for item in items:
        yield item
        yield from _walk(_children(item))


def _noted(item: Some, notes: dict[int, _Notes]) -> Some:
    mine = notes[id(item)]
    changes: dict[str, object] = {"leading": tuple(mine.leading), "trailing": mine.trailing}
    if isinstance(item, Block):
        changes["inner"] = tuple(mine.inner)
    name = {Agent: "members", Graph: "body", Repeat: "body", Train: "entries"}.get(type(item))
    if name:
        changes[name] = tuple(_noted(child, notes) for child in _children(item))
    return replace(item, **changes)  # type: ignore[arg-type]
