"""Replies as OpenAI's clients read them: whole, and as the events of a stream."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

from masc.serving.asked import Question
from masc.serving.choices import Choice, Token
from masc.serving.errors import RefusalError
from masc.serving.names import fresh_id


def event(data: dict[str, Any], name: str | None = None) -> str:
    """A server-sent event."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data, ensure_ascii=False)}\n\n"


def _counted(choices: Sequence[Choice], samples: int) -> tuple[int, int]:
    """Tokens of the prompts, each once however often it is answered, and of the answers."""
    return sum(choice.prompt for choice in choices[::samples]), sum(choice.said for choice in choices)


class Reply(ABC):
    """A reply to one request, in the words of one of the interfaces."""

    prefix: str
    last = "data: [DONE]\n\n"
    """What a stream ends with."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self.id = f"{self.prefix}{fresh_id()}"
        self.created = int(time.time())

    @abstractmethod
    def whole(self, choices: Sequence[Choice]) -> dict[str, Any]:
        """All at once."""

    @abstractmethod
    def begin(self, choices: Sequence[Choice]) -> Iterator[str]:
        """The events before anything is said."""

    @abstractmethod
    def piece(self, choice: Choice, text: str, tokens: Sequence[Token]) -> Iterator[str]:
        """More of an answer; perhaps its end (`choice.finish`)."""

    @abstractmethod
    def end(self, choices: Sequence[Choice]) -> Iterator[str]:
        """The events after everything is said."""

    def failed(self, error: RefusalError) -> Iterator[str]:
        """The event of an error within a stream."""
        yield event(error.body)


class _Choices(Reply):
    """What chat completions and completions have in common."""

    object: str
    chunk: str

    def _usage(self, choices: Sequence[Choice]) -> dict[str, int]:
        prompt, said = _counted(choices, self.question.samples)
        return {"prompt_tokens": prompt, "completion_tokens": said, "total_tokens": prompt + said}

    def _of(self, kind: str, choices: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        base = {"id": self.id, "object": kind, "created": self.created, "model": self.question.model}
        return {**base, "choices": choices, **more}

    def _chunk(self, choices: list[dict[str, Any]], usage: dict[str, int] | None = None) -> str:
        return event(self._of(self.chunk, choices, **({"usage": usage} if self.question.usage else {})))

    def end(self, choices: Sequence[Choice]) -> Iterator[str]:
        if self.question.usage:
            yield self._chunk([], self._usage(choices))
        yield self.last


class ChatReply(_Choices):
    """To `/v1/chat/completions`."""

    prefix, object, chunk = "chatcmpl-", "chat.completion", "chat.completion.chunk"

    def whole(self, choices: Sequence[Choice]) -> dict[str, Any]:
        found = []
        for choice in choices:
            message: dict[str, Any] = {"role": "assistant", "content": choice.text, "refusal": None}
            found.append(
                {"index": choice.index, "message": message, "finish_reason": choice.finish}
                | {"logprobs": self._logprobs(choice.tokens)}
                | ({} if choice.outputs is None else {"outputs": dict(choice.outputs)})
            )
        return self._of(self.object, found, usage=self._usage(choices))

    def begin(self, choices: Sequence[Choice]) -> Iterator[str]:
        for choice in choices:
            delta = {"role": "assistant", "content": "", "refusal": None}
            yield self._chunk([{"index": choice.index, "delta": delta, "finish_reason": None, "logprobs": None}])

    def piece(self, choice: Choice, text: str, tokens: Sequence[Token]) -> Iterator[str]:
        of = {"index": choice.index}
        if text or tokens:
            scores = self._logprobs(tokens)
            yield self._chunk([{**of, "delta": {"content": text}, "finish_reason": None, "logprobs": scores}])
        if choice.finish:
            more = {} if choice.outputs is None else {"outputs": dict(choice.outputs)}
            yield self._chunk([{**of, "delta": {}, "finish_reason": choice.finish, "logprobs": None, **more}])

    def _logprobs(self, tokens: Sequence[Token]) -> dict[str, Any] | None:
        if not self.question.logprobs:
            return None
        return {"content": [_scored(token) for token in tokens], "refusal": None}


class CompletionReply(_Choices):
    """To `/v1/completions`."""

    prefix, object, chunk = "cmpl-", "text_completion", "text_completion"

    def whole(self, choices: Sequence[Choice]) -> dict[str, Any]:
        found = [self._choice(one, one.text, one.tokens, 0, one.finish) for one in choices]
        return self._of(self.object, found, usage=self._usage(choices))

    def begin(self, choices: Sequence[Choice]) -> Iterator[str]:
        return iter(())

    def piece(self, choice: Choice, text: str, tokens: Sequence[Token]) -> Iterator[str]:
        if text or tokens or choice.finish:
            offset = sum(len(token.text) for token in choice.tokens[: len(choice.tokens) - len(tokens)])
            yield self._chunk([self._choice(choice, text, tokens, offset, choice.finish)])

    def _choice(
        self, choice: Choice, text: str, tokens: Sequence[Token], offset: int, finish: str | None
    ) -> dict[str, Any]:
        scores = None
        if self.question.logprobs:
            starts = [offset]
            for token in tokens:
                starts.append(starts[-1] + len(token.text))
            scores = {
                "tokens": [token.text for token in tokens],
                "token_logprobs": [token.logprob for token in tokens],
                "top_logprobs": None,
                "text_offset": starts[: len(tokens)],
            }
        more = {"outputs": dict(choice.outputs)} if choice.outputs is not None and finish else {}
        return {"index": choice.index, "text": text, "finish_reason": finish, "logprobs": scores, **more}


class ResponseReply(Reply):
    """To `/v1/responses`: one message."""

    prefix, last = "resp_", ""

    def __init__(self, question: Question) -> None:
        super().__init__(question)
        self.item = f"msg_{fresh_id()}"
        self._number = 0

    def whole(self, choices: Sequence[Choice]) -> dict[str, Any]:
        (choice,) = choices
        cut = choice.finish == "length"
        prompt, said = _counted(choices, 1)
        usage = {
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": said,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": prompt + said,
        }
        more = {} if choice.outputs is None else {"outputs": dict(choice.outputs)}
        state = "incomplete" if cut else "completed"
        return self._response(state, [self._item(choice, state)], usage, "max_output_tokens" if cut else None) | more

    def begin(self, choices: Sequence[Choice]) -> Iterator[str]:
        at: dict[str, Any] = {"output_index": 0}
        yield self._event("created", response=self._response("in_progress", []))
        yield self._event("in_progress", response=self._response("in_progress", []))
        yield self._event("output_item.added", **at, item=self._item(None, "in_progress"))
        yield self._event("content_part.added", **at, item_id=self.item, content_index=0, part=_part("", []))

    def piece(self, choice: Choice, text: str, tokens: Sequence[Token]) -> Iterator[str]:
        if text or tokens:
            yield self._event("output_text.delta", **self._at, delta=text, logprobs=[_scored(one) for one in tokens])

    def end(self, choices: Sequence[Choice]) -> Iterator[str]:
        (choice,) = choices
        whole = self.whole(choices)
        scores = [_scored(token) for token in choice.tokens]
        yield self._event("output_text.done", **self._at, text=choice.text, logprobs=scores)
        yield self._event("content_part.done", **self._at, part=_part(choice.text, scores))
        yield self._event("output_item.done", output_index=0, item=whole["output"][0])
        yield self._event(whole["status"], response=whole)

    def failed(self, error: RefusalError) -> Iterator[str]:
        told = {"code": error.code or "server_error", "message": error.message}
        yield self._event("failed", response=self._response("failed", []) | {"error": told})

    @property
    def _at(self) -> dict[str, Any]:
        return {"item_id": self.item, "output_index": 0, "content_index": 0}

    def _event(self, name: str, **data: Any) -> str:
        name = f"response.{name}"
        self._number += 1
        return event({"type": name, "sequence_number": self._number - 1, **data}, name)

    def _item(self, choice: Choice | None, status: str) -> dict[str, Any]:
        content = [] if choice is None else [_part(choice.text, [_scored(token) for token in choice.tokens])]
        return {"type": "message", "id": self.item, "role": "assistant", "status": status, "content": content}

    def _response(
        self, status: str, output: list[dict[str, Any]], usage: dict[str, Any] | None = None, cut: str | None = None
    ) -> dict[str, Any]:
        decoding = self.question.decoding
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "model": self.question.model,
            "output": output,
            "usage": usage,
            "error": None,
            "incomplete_details": {"reason": cut} if cut else None,
            "instructions": None,
            "metadata": {},
            "temperature": decoding.temperature,
            "top_p": decoding.top_p,
            "max_output_tokens": decoding.max_tokens,
            "parallel_tool_calls": False,
            "tool_choice": "none",
            "tools": [],
        }


def _part(text: str, scores: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": scores}


def _scored(token: Token) -> dict[str, Any]:
    return {"token": token.text, "logprob": token.logprob, "bytes": list(token.text.encode()), "top_logprobs": []}
