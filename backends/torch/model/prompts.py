"""From a prompt with `{name}` in it and a row of data to token ids (docs/semantics.md, section 2).

Prompts go through the model's chat template, which must write all of them. What comes from data is data: a value that
spells a control token (`<|im_end|>`) is tokenised as the characters that it is. A prompt of a model without a template
begins as its tokenizer begins every text (`<s>`); with a template that is the template's to write.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from masc.backends.torch.data.values import Row, names_of, text_of
from masc.backends.torch.model.characters import Characters
from masc.compiler.ir.plan import PlanAgent, Slot, Template
from masc.compiler.models.chat import ChatTemplate, Form, Message, unused
from masc.compiler.models.refusal import RefusalError
from masc.dsl.diagnostics import fail


class Texts(Protocol):
    """What prompts ask of a base model (`base.py`; without torch `texts.py`): how it tokenises, its chat template."""

    template: ChatTemplate | None
    form: Form
    frames: dict[Hashable, Any]

    @property
    def characters(self) -> Characters: ...
    @property
    def beginning(self) -> tuple[int, ...]: ...
    @property
    def rows(self) -> int: ...
    @property
    def max_positions(self) -> int: ...
    @property
    def end_of_turn(self) -> int: ...
    def spelt(self, ids: Sequence[int]) -> list[str]: ...


def value(row: Row, name: str, index: int) -> str:
    """A column of a row as text (`values.text_of`). E0604, E0607."""
    if name not in row:
        raise fail("E0604", f"row {index + 1} has no column `{name}`", hint=f"it has {names_of(row)}")
    try:
        return text_of(row[name])
    except ValueError as error:
        raise fail("E0607", f"column `{name}` of row {index + 1} {error}") from None


@dataclass(frozen=True)
class Vectors:
    """What stands at a placeholder instead of text: `count` vectors, from `first` on among those sent to the agent."""

    first: int
    count: int


Content = str | Vectors


@dataclass(frozen=True)
class Prompt:
    """ids: token ids; where a vector stands, -1 - its number. spans: by placeholder, which columns hold its values,
    each with how many of the value's characters there are up to its end (only if asked for). text: the prompt as it was
    rendered, `<3 vectors>` where vectors stand."""

    ids: tuple[int, ...]
    spans: Mapping[str, tuple[tuple[int, int], ...]]
    text: str = ""


def prompt_of(
    base: Texts, agent: PlanAgent, contents: Mapping[str, Content], spans: frozenset[str] = frozenset()
) -> Prompt:
    """An agent's prompt with its placeholders filled (those without content stay empty). What has no placeholder of its
    own stands before the user's text, text under the name of who said it.

    spans: the placeholders whose columns are wanted. Errors: E0620 the chat template does not take the prompt, E0536 it
    holds a token that the model has no vector for.
    """
    ids: list[int] = []
    found: dict[str, tuple[tuple[int, int], ...]] = {}
    run: list[tuple[str, str | None]] = []  # pieces of text without a vector between them, and whose value each is

    def close() -> None:
        coded = base.characters.code([(text, whose is None) for text, whose in run])
        owners = [(whose, length) for (_, whose), length in zip(run, coded.lengths, strict=True)]
        columns = [_owner(owners, end) for end in coded.ends] if spans else []
        for name in spans & {name for _, name in run if name is not None}:
            held = tuple((len(ids) + i, end) for i, (whose, end) in enumerate(columns) if whose == name)
            found[name] = found.get(name, ()) + held
        ids.extend(coded.ids)
        run.clear()

    shown: list[str] = []
    for piece in _frame(base, agent, contents):
        content = piece if isinstance(piece, str) else contents.get(piece.name, "")
        if isinstance(content, str):
            run.append((content, None if isinstance(piece, str) else piece.name))
            shown.append(content)
        else:
            close()
            ids.extend(-1 - i for i in range(content.first, content.first + content.count))
            shown.append(f"<{content.count} vectors>")
    close()
    if base.template is None and (first := base.beginning) and tuple(ids[: len(first)]) != first:
        ids[:0] = first
        found = {name: tuple((len(first) + column, end) for column, end in held) for name, held in found.items()}
        shown[:0] = base.spelt(first)
    _check_vectors(base, ids, f"the prompt of `{agent.name}`")
    return Prompt(tuple(ids), found, "".join(shown))


Frame = tuple[str | Slot, ...]


def _frame(base: Texts, agent: PlanAgent, contents: Mapping[str, Content]) -> Frame:
    """The prompt through the chat template, in pieces: its text, and placeholders. A template never sees a value."""
    without = tuple((n, isinstance(c, str)) for n, c in contents.items() if n not in placeholders(agent))
    key = (agent, without)
    found: Frame | None = base.frames.get(key)
    if found is None:
        found = base.frames[key] = _render(base, agent, without)
    return found


def placeholders(agent: PlanAgent) -> list[str]:
    """The names of an agent's placeholders."""
    return list(dict.fromkeys(part.name for part in (*(agent.system or ()), *agent.user) if isinstance(part, Slot)))


def _render(base: Texts, agent: PlanAgent, without: Sequence[tuple[str, bool]]) -> Frame:
    """without: what is given and has no placeholder, and whether it is text."""
    names = [*placeholders(agent), *(name for name, _ in without)]
    written = [part for part in (*(agent.system or ()), *agent.user) if isinstance(part, str)]
    known = [base.template.text] if base.template else []
    marks = dict(zip(names, unused(len(names), [*names, *written, *known]), strict=True))
    before = [f"{name}: {marks[name]}\n\n" if text else marks[name] for name, text in without]
    system = None if agent.system is None else _fill(agent.system, marks)
    user = "".join(before) + _fill(agent.user, marks)
    if base.template is None:
        text = user if system is None else f"{system}\n\n{user}"
    else:
        messages: list[Message] = [] if system is None else [("system", system)]
        try:
            template = replace(base.template, told=agent.variables) if agent.variables else base.template
            text = template.checked([*messages, ("user", user)], base.form)
        except RefusalError as refusal:
            hint = "move the `system` text into `user`" if system is not None else None
            message = f"the prompt of agent `{agent.name}` cannot be written: the model's chat template {refusal}"
            raise fail("E0620", message, hint=hint) from None
    slots = {mark: Slot(name) for name, mark in marks.items()}
    parts = re.split("([" + "".join(slots) + "])", text) if slots else [text]
    return tuple(slots.get(part, part) for part in parts if part)


def _fill(template: Template, marks: Mapping[str, str]) -> str:
    return "".join(marks[part.name] if isinstance(part, Slot) else part for part in template)


def _check_vectors(base: Texts, ids: Sequence[int], where: str) -> None:
    if ids and (worst := max(ids)) >= base.rows:
        (token,) = base.spelt([worst])
        message = f"{where} holds `{token}`, which the model has no vector for: its embedding has {base.rows:,} rows"
        raise fail("E0536", message, hint="tokenizer and weights must be of one model")


def check_size(base: Texts, texts: Iterable[str], limit: int, where: str) -> None:
    """E0606 where one of the texts alone is far beyond a limit of positions (0: there is none), found out from its
    beginning: to tokenise the whole of a very long text takes minutes and gigabytes. where: whose text it is."""
    for text in texts if limit else ():
        size = 8 * limit
        while size < len(text):
            # The end of a beginning may become other tokens once more follows, but never half of all.
            count = len(base.characters.code([(text[:size], False)]).ids)
            if count > 2 * limit:
                message = f"{where} holds a text of {len(text):,} characters; there are {limit:,} positions for it"
                hint = "shorten the input, or raise `max_length` if it is the lower limit"
                raise fail("E0606", message, hint=hint)
            size *= 2


def _owner(owners: Sequence[tuple[str | None, int]], end: int) -> tuple[str | None, int]:
    """In whose piece the character before `end` lies, and how many characters of the piece there are up to it."""
    for whose, length in owners:
        if 0 < end <= length:
            return whose, end
        end -= length
    return None, 0


def prompt_ids(base: Texts, agent: PlanAgent, row: Row, index: int, inputs: Collection[str] | None = None) -> list[int]:
    """The token ids of an agent's prompt for one row, nothing sent to it. inputs: which placeholders the row fills
    (None: all)."""
    contents = {name: value(row, name, index) for name in placeholders(agent) if inputs is None or name in inputs}
    check_size(base, contents.values(), base.max_positions, f"row {index + 1}")
    return list(prompt_of(base, agent, contents).ids)


def aligned(receiver: Prompt, sender: Prompt) -> tuple[tuple[int, int], ...]:
    """Which token of the sender's prompt stands for which of the receiver's: pairs (sender's, receiver's column).

    Only values of placeholders that both hold can be aligned. A receiver's token goes to the sender's token that holds
    its last character: the first one that reaches as far into the value.
    """
    found = []
    for name, own in receiver.spans.items():
        theirs = sender.spans.get(name, ())
        for place, (column, end) in enumerate(own):
            reach = next((reaches for _, reaches in theirs if reaches >= end), None)
            if reach is None:
                continue
            # Tokens of one character's bytes reach equally far: they are paired from the last.
            there = [at for at, reaches in theirs if reaches == reach]
            behind = sum(later == end for _, later in own[place + 1 : place + len(there)])
            found.append((there[max(0, len(there) - 1 - behind)], column))
    return tuple(found)


def answer_ids(base: Texts, text: str) -> list[int]:
    """A label: the answer's tokens, tokenised apart from the prompt, and the end-of-turn token.

    It is what the model would have to say for this text to be read (`Base.text`): special tokens are characters in it,
    since decoding leaves them out; other added tokens (`<think>`) are shown, and so are themselves.
    """
    ids = [*base.characters.literal(text, base.end_of_turn), base.end_of_turn]
    _check_vectors(base, ids, "an answer")
    return ids
