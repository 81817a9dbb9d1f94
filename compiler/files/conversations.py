"""Conversations in rows of data: which columns of a graph are parts of one.

A row may hold a whole conversation in one column (`messages`), a list of what each said. Its parts go by names of their
own, which stand wherever a column is named:

    messages.user         what the user said last
    messages.assistant    what the assistant answered to that
    messages.system       what the system message says
    messages.before       the turns before, as text

Where nothing is said, the one input that a row lacks is `messages.user`, and the one answer `messages.assistant`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

COLUMNS = ("messages", "conversations")
"""What such a column is called where nobody names it."""
PARTS = ("system", "before", "user", "assistant")


def part_of(name: str, there: Collection[str]) -> tuple[str, str] | None:
    """Column and part that a name means in a row with some columns; None: no part of a conversation."""
    column, _, part = name.rpartition(".")
    return (column, part) if name not in there and part in PARTS and column in there else None


def parts_in(inputs: Sequence[str], answers: Sequence[str], there: Collection[str]) -> Mapping[str, tuple[str, str]]:
    """Of the columns that a graph reads (`inputs`) and learns or scores (`answers`), by the names that they have in the
    data: those that are parts of a conversation, each with its column and part."""
    found: dict[str, tuple[str, str]] = {}
    for name in (*inputs, *answers):
        if (part := part_of(name, there)) is not None:
            found[name] = part
    column = next((name for name in COLUMNS if name in there), None)
    if column is None:
        return found
    for names, whose in ((inputs, "user"), (answers, "assistant")):
        missing = [name for name in dict.fromkeys(names) if name not in there]
        if len(missing) == 1 and missing[0] not in found:
            found[missing[0]] = (column, whose)
    return found
