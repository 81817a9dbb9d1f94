"""What OpenAI's clients ask: the bodies of requests, and what they mean to a graph.

A parameter that would change the answer and is not known is refused, so that nobody believes that it has been heeded.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from masc.compiler.analysis.decoding import Decoding
from masc.compiler.language.agents import DECODING
from masc.dsl.diagnostics import did_you_mean
from masc.serving.errors import wrong
from masc.serving.names import fresh_seed

Messages = list[dict[str, Any]]

_NO_EFFECT = frozenset(
    {"user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "parallel_tool_calls"}
)
"""What changes no answer."""
_NEUTRAL: Mapping[str, Sequence[Any]] = {
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "response_format": ({"type": "text"},),
    "text": ({}, {"format": {"type": "text"}}),
    "modalities": (["text"],),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "best_of": (1,),
    "echo": (False,),
    "suffix": ("",),
    "background": (False,),
    "truncation": ("disabled",),
}
"""What masc does not do, and the values by which it is not asked for."""


@dataclass(frozen=True)
class Question:
    """A request. conversations: each is answered `samples` times; inputs: of the graph, beside the last user message;
    usage: tokens are counted in the last piece of a stream; logprobs: of each token that is said."""

    model: str
    conversations: Sequence[Messages]
    inputs: Mapping[str, Any]
    decoding: Decoding
    samples: int
    stream: bool
    usage: bool
    logprobs: bool


class StreamOptions(BaseModel):
    include_usage: bool = False
    include_obfuscation: bool = False


class Body(BaseModel, ABC):
    """What requests of all kinds hold."""

    model_config = ConfigDict(extra="allow", strict=True)
    limit_names: ClassVar[tuple[str, ...]] = ("max_tokens",)
    """What the largest number of tokens is called; the first that is given counts."""

    model: str
    stream: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    inputs: dict[str, str | int | float | bool] | None = None

    @abstractmethod
    def conversations(self) -> Sequence[Messages]: ...

    def question(self) -> Question:
        """What is asked. RefusalError for a parameter that is not known or out of range."""
        self._check_others()
        options = getattr(self, "stream_options", None)
        return Question(
            model=self.model,
            conversations=self.conversations(),
            inputs=self.inputs or {},
            decoding=self._decoding(),
            samples=getattr(self, "n", None) or 1,
            stream=bool(self.stream),
            usage=bool(options and options.include_usage),
            logprobs=self.scored(),
        )

    def scored(self) -> bool:
        """Whether log-probabilities are asked for."""
        return False

    def _check_others(self) -> None:
        for name, value in (self.model_extra or {}).items():
            if value is None or name in _NO_EFFECT or value in _NEUTRAL.get(name, ()):
                continue
            if name in _NEUTRAL:
                raise wrong(name, f"`{name}` is not supported", "unsupported_parameter")
            hint = did_you_mean(name, list(type(self).model_fields))
            raise wrong(name, f"there is no parameter `{name}`" + (f": {hint}" if hint else ""), "unknown_parameter")

    def _decoding(self) -> Decoding:
        """How it is decoded. Whoever gives no seed wants another sample each time."""
        given = {"temperature": self.temperature, "top_p": self.top_p, "seed": self.seed}
        told = {name: name for name in given}
        for name in self.limit_names:
            if (most := getattr(self, name)) is not None:
                given["max_tokens"], told["max_tokens"] = most, name
                break
        for name, value in given.items():
            if value is not None and (problem := DECODING[name].complaint(told[name], value)) is not None:
                raise wrong(told[name], problem)
        try:
            decoding = Decoding(**given, stop=self.stop)  # type: ignore[arg-type]
        except ValueError as error:  # numbers have been looked at
            raise wrong("stop", str(error)) from None
        return decoding if self.seed is not None else replace(decoding, seed=fresh_seed())


def only_chosen(param: str, count: int | None) -> None:
    """RefusalError where the log-probabilities of further tokens are asked for."""
    if count:
        raise wrong(param, f"`{param}` must be 0: only the tokens that are said are scored", "unsupported_parameter")


class Chat(Body):
    """`/v1/chat/completions`."""

    limit_names = ("max_completion_tokens", "max_tokens")

    messages: Messages
    max_completion_tokens: int | None = None
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    stream_options: StreamOptions | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None

    def conversations(self) -> Sequence[Messages]:
        return [self.messages]

    def scored(self) -> bool:
        only_chosen("top_logprobs", self.top_logprobs)
        return bool(self.logprobs)


class Completion(Body):
    """`/v1/completions`."""

    prompt: str | list[str] = ""
    n: Annotated[int, Field(ge=1, le=128)] | None = None
    stream_options: StreamOptions | None = None
    logprobs: int | None = None

    def conversations(self) -> Sequence[Messages]:
        prompts = [self.prompt] if isinstance(self.prompt, str) else self.prompt
        if not 1 <= len(prompts) <= 128:
            raise wrong("prompt", f"`prompt` holds {len(prompts)} texts: it must be 1 to 128")
        return [[{"role": "user", "content": prompt}] if prompt else [] for prompt in prompts]

    def scored(self) -> bool:
        only_chosen("logprobs", self.logprobs)
        return self.logprobs is not None


class Response(Body):
    """`/v1/responses`."""

    limit_names = ("max_output_tokens",)

    input: str | list[dict[str, Any]] = ""
    instructions: str | None = None
    max_output_tokens: int | None = None
    include: list[str] | None = None
    top_logprobs: int | None = None

    def conversations(self) -> Sequence[Messages]:
        items = [{"role": "user", "content": self.input}] if isinstance(self.input, str) else self.input
        system = [{"role": "system", "content": self.instructions}] if self.instructions else []
        return [[*system, *map(_message, items)] if self.input else system]

    def scored(self) -> bool:
        only_chosen("top_logprobs", self.top_logprobs)
        for name in self.include or ():
            if name != _SCORES:
                raise wrong("include", f"`{name}` cannot be included", "unsupported_parameter")
        return bool(self.include)


_SCORES = "message.output_text.logprobs"


def _message(item: dict[str, Any]) -> dict[str, Any]:
    """An item of a response's input as a message of a chat."""
    if item.get("type", "message") != "message":
        raise wrong("input", f"an item of the type `{item['type']}` is not supported", "unsupported_parameter")
    content = item.get("content")
    if isinstance(content, list):
        content = [
            {**part, "type": "text"}
            if isinstance(part, dict) and part.get("type") in ("input_text", "output_text")
            else part
            for part in content
        ]
    return {"role": item.get("role"), "content": content}
