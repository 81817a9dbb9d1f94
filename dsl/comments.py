"""Comments and empty lines find the nodes that they belong to.

Both readers build the tree without comments and attach them here, by where they stand; none is lost:

- at the end of a line: to the first item that starts on the line, as its trailing comment;
- in the middle of an item, or at the end of its last line: to the item, as a leading one;
- on lines of their own: to the next item of the block, or to the block's end.

An empty line before such a comment, or before an item, is kept as a None among the comments. Several are one.

A comment `masc: ...` is for the compiler (see compiler/remarks/silence.py); the file lists these with the items that
they are about.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import TypeVar

from masc.dsl.source import Span
from masc.dsl.syntax import (
    CHILDREN,
    Allow,
    Block,
    Declaration,
    File,
    Item,
    Member,
    Setting,
    Statement,
    Supervise,
)

Child = Declaration | Member | Statement | Supervise | Setting
Some = TypeVar("Some", bound=Child)
FOR_MASC = "masc:"


@dataclass(frozen=True)
class Comment:
    """A comment's text and the offset of its `#` in the source."""

    start: int
    text: str


@dataclass
class _Notes:
    leading: list[str | None] = field(default_factory=list)
    within: list[str | None] = field(default_factory=list)
    trailing: str | None = None
    inner: list[str | None] = field(default_factory=list)


def attach(file: File, comments: Iterable[Comment], line_start: Callable[[int], int] = int) -> File:
    """The same tree with each comment, and each empty line, at the node that it belongs to.

    line_start: from where an item starts to where what leads up to it does, YAML's `- ` for one.
    """
    comments = sorted(set(comments), key=lambda comment: comment.start)
    source = file.span.source
    places = Places(file)
    first_on: dict[int, Item] = {}
    ends_on: dict[int, list[Item]] = {}
    for item in places.items:
        first_on.setdefault(item.span.line, item)
        ends_on.setdefault(source.locate(item.span.end)[0], []).append(item)
    notes = {id(item): _Notes() for item in places.items}
    header: list[str | None] = []
    trailer: list[str | None] = []
    version: str | None = None
    allows: list[Allow] = []

    for comment in comments:
        line = source.locate(comment.start)[0]
        beside = first_on.get(line)
        about: Item | File | None = None
        if beside and beside.span.start < comment.start and notes[id(beside)].trailing is None:
            notes[id(beside)].trailing = comment.text
            about = beside
        elif line == file.span.line and comment.start > file.span.start and version is None:
            version = comment.text
            about = file
        else:
            around = [item for item in ends_on.get(line, ()) if item.span.start < comment.start]
            home = around[-1] if around else places.innermost(comment.start)
            following = places.following(home, comment.start)
            if home and not isinstance(home, Block):
                about = home
            elif following and (home or comment.start > file.span.start):
                about = following
            if about is not None and about.span.start < comment.start:
                notes[id(about)].within.append(comment.text)
            else:
                place = notes[id(about)].leading if about else notes[id(home)].inner if home else trailer
                if not about and not home and comment.start < file.span.start:
                    place, about = header, file
                place += [None, comment.text] if _after_empty_line(source.text, comment.start) else [comment.text]
        if comment.text.startswith(FOR_MASC):
            end = comment.start + len(_line(source.text, comment.start).rstrip())
            item_span = about.span if isinstance(about, Item) else None
            allows.append(Allow(Span(source, comment.start, end), comment.text, item_span, about is file))

    for item in places.items:
        if _after_empty_line(source.text, line_start(item.span.start)):
            notes[id(item)].leading.append(None)
    if header and _after_empty_line(source.text, line_start(file.span.start)):
        header.append(None)
    return replace(
        file,
        declarations=tuple(_noted(item, notes) for item in file.declarations),
        header=tuple(header),
        trailer=tuple(trailer),
        trailing=version,
        allows=tuple(allows),
    )


def _line(text: str, start: int) -> str:
    """The rest of a line."""
    end = text.find("\n", start)
    return text[start : end if end >= 0 else len(text)]


class Places:
    """The items of a file by where they stand. They lie beside each other or one in the other."""

    def __init__(self, file: File) -> None:
        self.items = sorted(_walk(file.declarations), key=lambda item: (item.span.start, -item.span.end))
        self._starts = [item.span.start for item in self.items]
        self._parent: list[int] = []
        open_: list[int] = []
        for i, item in enumerate(self.items):
            while open_ and self.items[open_[-1]].span.end < item.span.end:
                open_.pop()
            self._parent.append(open_[-1] if open_ else -1)
            open_.append(i)
        self._sorted: dict[int, tuple[list[Child], list[int]]] = {}
        self._top = file.declarations

    def innermost(self, offset: int) -> Item | None:
        """The innermost item that a character stands in."""
        i = bisect_right(self._starts, offset) - 1
        while i >= 0 and self.items[i].span.end <= offset:
            i = self._parent[i]
        return self.items[i] if i >= 0 else None

    def following(self, home: Item | None, offset: int) -> Item | None:
        """The first child of an item (None: of the file) after an offset."""
        if id(home) not in self._sorted:
            found = sorted(_children(home) if home else self._top, key=lambda child: child.span.start)
            self._sorted[id(home)] = found, [child.span.start for child in found]
        children, starts = self._sorted[id(home)]
        i = bisect_right(starts, offset)
        return children[i] if i < len(children) else None


def _children(item: Item) -> tuple[Child, ...]:
    children: tuple[Child, ...] = getattr(item, CHILDREN[type(item)]) if isinstance(item, Block) else ()
    return children


def _walk(items: Iterable[Child]) -> Iterator[Item]:
    for item in items:
        yield item
        yield from _walk(_children(item))


def _noted(item: Some, notes: dict[int, _Notes]) -> Some:
    mine = notes[id(item)]
    changes: dict[str, object] = {"leading": (*mine.leading, *mine.within), "trailing": mine.trailing}
    if isinstance(item, Block):
        changes["inner"] = tuple(mine.inner)
        changes[CHILDREN[type(item)]] = tuple(_noted(child, notes) for child in _children(item))
    return replace(item, **changes)  # type: ignore[arg-type]


def _after_empty_line(text: str, start: int) -> bool:
    """Whether an empty line stands right before what starts here."""
    ends = 0
    while start and ends < 2 and (text[start - 1].isspace() or text[start - 1] == "\ufeff"):
        start -= 1
        ends += text[start] == "\n"
    return ends == 2
