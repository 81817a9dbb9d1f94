"""Rows that hold a conversation: what a graph reads of it, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from masc.backends.torch.data.conversations import ConversationError, unfolded
from masc.dsl.diagnostics import MascError

ASKED = {"role": "user", "content": "2 + 2?"}
SAID = {"role": "assistant", "content": "4"}
SYSTEM = {"role": "system", "content": "Be brief."}


def test_the_last_question_and_its_answer() -> None:
    row = {"messages": [ASKED, SAID], "topic": "sums"}
    assert unfolded(row, ["question", "topic"], ["answer"]) == row | {"question": "2 + 2?", "answer": "4"}
    assert unfolded(row, ["question"], []) == row | {"question": "2 + 2?"}


def test_parts_by_name() -> None:
    before = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    row = {"chat": [SYSTEM, *before, ASKED, SAID]}
    found = unfolded(row, ["chat.user", "chat.before", "chat.system"], ["chat.assistant"])
    assert found["chat.user"] == "2 + 2?"
    assert found["chat.assistant"] == "4"
    assert found["chat.system"] == "Be brief."
    assert found["chat.before"] == "user: Hi\n\nassistant: Hello"


def test_columns_of_their_own_count_before_the_conversation() -> None:
    row = {"messages": [SYSTEM, ASKED, SAID], "question": "q", "answer": "a"}
    assert unfolded(row, ["question"], ["answer"]) == row


def test_more_than_one_input_is_not_guessed() -> None:
    with pytest.raises(ConversationError, match="with a question of the user, which no input reads") as caught:
        unfolded({"messages": [ASKED, SAID]}, ["question", "topic"], ["answer"])
    assert 'NAME <- "messages.user"' in (caught.value.hint or "")


def test_the_other_form_and_texts_in_pieces() -> None:
    row = {"conversations": [{"from": "human", "value": "2 + 2?"}, {"from": "gpt", "value": "4"}]}
    assert unfolded(row, ["q"], ["a"]) == row | {"q": "2 + 2?", "a": "4"}
    row = {
        "messages": [{"role": "user", "content": [{"type": "text", "text": "2 +"}, {"type": "text", "text": " 2?"}]}]
    }
    assert unfolded(row, ["q"], [])["q"] == "2 + 2?"


@pytest.mark.parametrize(
    ("messages", "told"),
    [
        ([SYSTEM, ASKED, SAID], "with a system message, which no input reads"),
        ([ASKED, SAID, ASKED, SAID], "of several turns, which no input reads"),
        ([ASKED], "in which the last word is not the assistant's"),
        ([ASKED, SAID, ASKED], "in which the last word is not the assistant's"),
        ([SAID], "in which the user says nothing"),
        ([ASKED, SAID, SAID], "ends with two messages of the assistant"),
        ([ASKED, SYSTEM, SAID], "a system message that is not its first message"),
        ([{"role": "tool", "content": "x"}], "message 1 has the role `tool`"),
        ([ASKED, {"role": "assistant", "content": None}], "message 2 has no text in `content`"),
        ([ASKED, SAID | {"tool_calls": [{"id": "1"}]}], "message 2 calls a tool"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "message 1 holds more than text"),
        (["hello"], "message 1 is no object"),
        ([], "is no list of messages"),
        ("text", "is no list of messages"),
    ],
)
def test_nothing_is_dropped_silently(messages: Any, told: str) -> None:
    with pytest.raises(ConversationError, match=told):
        unfolded({"messages": messages}, ["question"], ["answer"])


def test_the_line_is_told(tmp_path: Path) -> None:
    from masc.compiler.files.sources import row_source
    from masc.session.columns import Reading, read

    path = tmp_path / "chats.jsonl"
    asked = Reading({}, ("question",), ("answer",), ("question", "answer"))
    path.write_text("".join(json.dumps({"messages": m}) + "\n" for m in ([ASKED, SAID], [SYSTEM, ASKED, SAID])))
    with pytest.raises(MascError) as caught:
        read(row_source(str(path)), asked)
    (told,) = caught.value.diagnostics
    assert (told.code, told.span and told.span.line) == ("E0628", 2)
    assert 'NAME <- "messages.system"' in (told.hint or "")
