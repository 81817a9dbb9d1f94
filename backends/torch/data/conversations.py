"""A conversation in a row (`messages`): what the user said last, what was answered, and what came before.

Nothing of it is dropped silently: what no column of the graph reads must not be there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from masc.compiler.files.conversations import parts_in

_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
_OTHER_ROLES = {"human": "user", "gpt": "assistant"}
"""Of the form `{"from": "human", "value": "..."}`."""


class ConversationError(ValueError):
    """What is wrong with a conversation, as it goes on after "line 3"."""

    def __init__(self, what: str, hint: str | None = None) -> None:
        super().__init__(what)
        self.hint = hint


def unfolded(row: dict[str, Any], inputs: Sequence[str], answers: Sequence[str]) -> dict[str, Any]:
    """A row and the parts of its conversation that a graph reads (inputs) and learns (answers), under the names by
    which it reads them (`compiler/files/conversations.py`). A row without one is itself.

    ConversationError: what is no conversation of texts, a part that it has not, and one that nobody would read.
    """
    named = parts_in(inputs, answers, row.keys())
    found = dict(row)
    for column in dict.fromkeys(column for column, _ in named.values()):
        read = {name: part for name, (of, part) in named.items() if of == column}
        parts = _parts(row[column], column)
        for name, part in read.items():
            if part not in parts:
                raise ConversationError(f"has a conversation (`{column}`) {_LACKING[part]}")
            found[name] = parts[part]
        for part in _UNREAD:
            if part not in read.values() and part in parts:
                hint = f'say which input it is (`NAME <- "{column}.{part}"` in `train`), or take it out'
                raise ConversationError(f"has a conversation (`{column}`) {_UNREAD[part]}, which no input reads", hint)
    return found


_LACKING = {
    "system": "without a system message",
    "before": "of one question and one answer, without turns before",
    "user": "in which the user says nothing",
    "assistant": "in which the last word is not the assistant's: there is no answer to learn",
}
_UNREAD = {"system": "with a system message", "before": "of several turns", "user": "with a question of the user"}


def _parts(messages: Any, column: str) -> dict[str, str]:
    """The parts of a conversation that are there."""
    if not isinstance(messages, Sequence) or isinstance(messages, str | bytes) or not messages:
        raise ConversationError(f"has no conversation in `{column}`: it is no list of messages")
    said = [_message(each, number, column) for number, each in enumerate(messages, start=1)]
    systems = [text for role, text in said if role == "system"]
    if len(systems) > 1 or (systems and said[0][0] != "system"):
        raise ConversationError(f"has a conversation (`{column}`) with a system message that is not its first message")
    parts = {"system": systems[0]} if systems else {}
    turns = said[len(systems) :]
    asked = max((i for i, (role, _) in enumerate(turns) if role == "user"), default=None)
    if asked is None:
        return parts
    after = [text for _, text in turns[asked + 1 :]]
    if len(after) > 1:
        raise ConversationError(f"has a conversation (`{column}`) that ends with two messages of the assistant")
    parts["user"] = turns[asked][1]
    if after:
        parts["assistant"] = after[0]
    if turns[:asked]:
        parts["before"] = "\n\n".join(f"{role}: {text}" for role, text in turns[:asked])
    return parts


def _message(message: Any, number: int, column: str) -> tuple[str, str]:
    """Role and text of a message. Its text may be in parts, all of them texts."""
    what = f"has a conversation (`{column}`) whose message {number}"
    if not isinstance(message, Mapping):
        raise ConversationError(f"{what} is no object with `role` and `content`")
    names, roles = ("role", "content"), _ROLES
    if "role" not in message and "from" in message:
        names, roles = ("from", "value"), _ROLES | _OTHER_ROLES
    role, content = (message.get(name) for name in names)
    if not isinstance(role, str) or role not in roles:
        raise ConversationError(f"{what} has the role `{role}`; roles are {', '.join(dict.fromkeys(roles))}")
    if message.get("tool_calls"):
        raise ConversationError(f"{what} calls a tool, which no graph does")
    if isinstance(content, Sequence) and not isinstance(content, str):
        pieces = [piece.get("text") for piece in content if isinstance(piece, Mapping) and piece.get("type") == "text"]
        if len(pieces) < len(content) or not all(isinstance(piece, str) for piece in pieces):
            raise ConversationError(f"{what} holds more than text")
        content = "".join(str(piece) for piece in pieces)
    if not isinstance(content, str):
        raise ConversationError(f"{what} has no text in `{names[1]}`")
    return roles[role], content
