"""Chat templates: rendered as transformers renders them, but with a clock that stands still, and held to what they must
do: write every message once, in order, as it is.

A template is a program from a model folder. It runs in a sandbox (`chat_sandbox.py`), which knows neither files nor the
network and lets nothing go on for ever.
Format: https://huggingface.co/docs/transformers/chat_templating.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property, lru_cache
from itertools import chain, islice, product
from typing import Any, Literal

from masc.compiler.ir.model import Told
from masc.compiler.language.models import GIVEN, Plain
from masc.compiler.models.refusal import RefusalError
from masc.dsl.diagnostics import first_line

TODAY = datetime(2024, 7, 26)
"""What every template takes for today, so that a prompt is the same tomorrow. It is the date that Llama 3's own
templates write where they can ask no clock."""

Message = tuple[Literal["system", "user", "assistant"], str]
DEFAULTS: Mapping[str, Plain] = {"enable_thinking": False}
"""What templates are told where nobody says otherwise. Models that reason in words (Qwen3 and its like) would think
first: a team thinks in latent steps, and what is trained is that the answer begins at once."""
Form = Literal["text", "parts"]
"""How a message's content is given: as a string, or as a list of parts of which one is text."""


@dataclass(frozen=True)
class ChatTemplate:
    """A template's text, the tokens that it may name (`bos_token`), and what else it is told."""

    text: str
    tokens: Mapping[str, str] = field(default_factory=dict)
    clock: Callable[[str], str] = TODAY.strftime
    told: Told = ()

    def __reduce__(self) -> tuple[Any, ...]:
        """What jinja has made of the text can be neither copied nor pickled; it is made anew."""
        return ChatTemplate, (self.text, self.tokens, self.clock, self.told)

    def render(self, messages: Sequence[Message], form: Form, asking: bool = True) -> str:
        """The messages as one text; asking: with the beginning of the assistant's answer. RefusalError."""
        told = [{"role": role, "content": _content(text, form)} for role, text in messages]
        from masc.compiler.models import chat_sandbox

        given = {"messages": told, "tools": None, "documents": None, "add_generation_prompt": asking}
        try:
            variables = {**DEFAULTS, **dict(self.told), **self.tokens, **given, "strftime_now": self.clock}
            return chat_sandbox.rendered(self._compiled, variables, sum(len(text) for _, text in messages))
        except RefusalError:
            raise
        except Exception as error:  # a template fails with whatever Python raises in it
            verb = "refuses" if type(error).__name__ == "TemplateError" else "fails"
            raise RefusalError(f"{verb}: {first_line(error)}") from None

    @cached_property
    def variables(self) -> tuple[str, ...]:
        """What it asks for that the caller may set, in the order of the names. RefusalError where it cannot be read."""
        from masc.compiler.models import chat_sandbox

        self._compiled  # noqa: B018 - which says what is wrong with it
        asked = chat_sandbox.asked(self.text)
        return tuple(sorted(name for name in asked if name not in GIVEN and not name.endswith("_token")))

    @cached_property
    def _compiled(self) -> Any:
        from masc.compiler.models import chat_sandbox

        try:
            return chat_sandbox.compiled(self.text)
        except Exception as error:
            line = getattr(error, "lineno", None)
            raise RefusalError(f"cannot be read: {first_line(error)}" + (f" (line {line})" if line else "")) from None

    def checked(self, messages: Sequence[Message], form: Form) -> str:
        """The messages as one text, after it was seen that each stands there once, in order, as it is (but for white
        space around it). RefusalError, with the reason, where it does not."""
        text = self.render(messages, form)
        said = [content for _, content in messages if content.strip()]
        marks = unused(len(said), [self.text, text, *said])
        stand_ins = iter(marks)
        told: list[Message] = [(r, next(stand_ins) if c.strip() else c) for r, c in messages]
        roles = [role for role, content in messages if content.strip()]
        frame = self.render(told, form)
        for role, mark in zip(roles, marks, strict=True):
            if (count := frame.count(mark)) != 1:
                verb = "leaves out" if not count else "writes more than once"
                raise RefusalError(f"{verb} {_WHOSE[role]}")
        if (order := sorted(marks, key=frame.index)) != list(marks):
            raise RefusalError(f"moves {_WHOSE[roles[marks.index(order[0])]]} in front of {_WHOSE[roles[0]]}")
        variants = [dict.fromkeys((content, content.strip())) for content in said]
        if any(text == _filled(frame, marks, kept) for kept in product(*variants)):
            return text
        at = 0  # a template may answer to what a message says (`/no_think`): then every message itself must be there
        for role, content in zip(roles, said, strict=True):
            place = text.find(content.strip(), at)
            if place < 0:
                raise RefusalError(f"changes {_WHOSE[role]}, or leaves a part of it out")
            at = place + len(content.strip())
        return text


_WHOSE = {"system": "the system text", "user": "what is said to the agent", "assistant": "what the agent says"}


def unused(count: int, texts: Sequence[str]) -> tuple[str, ...]:
    """So many different characters, for private use, that do not occur in any of the texts."""
    held = {char for text in texts for char in _FOR_PRIVATE_USE.findall(text)}
    free = (chr(code) for code in chain(*_PRIVATE) if chr(code) not in held)
    return tuple(islice(free, count))


_PRIVATE = (range(0xE000, 0xF900), range(0xF0000, 0xFFFFE), range(0x100000, 0x10FFFE))
_FOR_PRIVATE_USE = re.compile("[\ue000-\U0010ffff]")


def _filled(frame: str, marks: Sequence[str], texts: Sequence[str]) -> str:
    for mark, text in zip(marks, texts, strict=True):
        frame = frame.replace(mark, text)
    return frame


def _content(text: str, form: Form) -> object:
    return text if form == "text" else [{"type": "text", "text": text}]


@dataclass(frozen=True)
class Chat:
    """What a template makes of conversations. form: how contents are given to it; alone, led: why it cannot be used for
    an agent without, or with, a system text (None: it can); dated: it writes the date; start: how a prompt begins;
    variables: what else it asks for."""

    form: Form
    alone: str | None
    led: str | None
    dated: bool
    start: str
    variables: tuple[str, ...] = ()


def _probe(role: str) -> str:
    """A text that shows when a template changes it: case, spaces, lines, signs of other languages, length."""
    return f'The {role} SAYS:  "a < b & c" \\ {{{{ü}}}}, `Ω`;\n\n\tthen ' + "more WORDS " * 500 + "and the End"


_ALONE: tuple[Message, ...] = (("user", _probe("user")),)
_LED: tuple[Message, ...] = (("system", _probe("system")), *_ALONE)


def look(template: ChatTemplate) -> Chat:
    """Try a template on an agent's messages, with texts that show what it does to them; once."""
    return _look(template.text, tuple(template.tokens.items()), template.told, repr(template.told))


@lru_cache(maxsize=64)
def _look(text: str, tokens: tuple[tuple[str, str], ...], told: Told, _: str) -> Chat:
    """_: tells `true` from 1, which are equal."""
    template = ChatTemplate(text, dict(tokens), told=told)
    asked: list[str] = []

    def clock(form: str) -> str:
        asked.append(form)
        return TODAY.strftime(form)

    timed = replace(template, clock=clock)

    def trouble(messages: Sequence[Message], form: Form) -> str | None:
        try:
            timed.checked(messages, form)
        except RefusalError as refusal:
            return str(refusal)
        return None

    forms: tuple[Form, Form] = ("text", "parts")
    found = {form: (trouble(_ALONE, form), trouble(_LED, form)) for form in forms}
    form = min(forms, key=lambda f: sum(why is not None for why in found[f]))
    alone, led = found[form]
    whole = next((m for m, why in ((_ALONE, alone), (_LED, led)) if why is None), None)
    start = "" if whole is None else template.render(whole, form)[:200]
    return Chat(form, alone, led, bool(asked), start, _variables(template))


def _variables(template: ChatTemplate) -> tuple[str, ...]:
    try:
        return template.variables
    except RefusalError:  # which has been found already
        return ()
