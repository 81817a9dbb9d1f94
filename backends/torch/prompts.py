"""From a prompt with `{name}` in it and a row of data to token ids.

Prompts go through the model's chat template. What comes from data is data: a value that spells a special token
(`<|im_end|>`) is tokenised as the characters that it is.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from masc.backends.torch.base import TOKENIZING, Base
from masc.backends.torch.values import names_of, text_of
from masc.compiler.plan import PlanAgent, Slot, Template
from masc.dsl.diagnostics import fail

Row = Mapping[str, Any]


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
    base: Base, agent: PlanAgent, contents: Mapping[str, Content], spans: frozenset[str] = frozenset()
) -> Prompt:
    """An agent's prompt with its placeholders filled (those without content stay empty). What has no placeholder of its
    own stands before the user's text, text under the name of who said it.

    spans: the placeholders whose columns are wanted.
    """
    marks = Marks.for_(base, agent)
    marked = _render(base, agent, contents, marks)
    ids: list[int] = []
    found: dict[str, tuple[tuple[int, int], ...]] = {}
    names = _slots(agent, contents)
    run: list[tuple[str, str | None]] = []  # pieces of text without a vector between them, and whose value each is

    def close() -> None:
        columns = _tokens(base, run, bool(spans))
        for name in spans & {name for _, name in run if name is not None}:
            held = tuple((len(ids) + i, end) for i, (_, whose, end) in enumerate(columns) if whose == name)
            found[name] = found.get(name, ()) + held
        ids.extend(token for token, _, _ in columns)
        run.clear()

    shown: list[str] = []
    for place, piece in enumerate(marks.split(marked)):
        if place % 2 == 0:
            run.append((piece, None))
            shown.append(piece)
            continue
        content = contents.get(names[int(piece)], "")
        if isinstance(content, str):
            run.append((content, names[int(piece)]))
            shown.append(content)
        else:
            close()
            ids.extend(-1 - i for i in range(content.first, content.first + content.count))
            shown.append(f"<{content.count} vectors>")
    close()
    return Prompt(tuple(ids), found, "".join(shown))


@dataclass(frozen=True)
class Marks:
    """What stands for placeholders while a prompt goes through the chat template. start: characters that stand in no
    text of the agent and not in the template either, so that nothing else can be taken for a mark."""

    start: str

    @classmethod
    def for_(cls, base: Base, agent: PlanAgent) -> Marks:
        written = [part for part in (*(agent.system or ()), *agent.user) if isinstance(part, str)]
        known = "\0".join([*written, str(base.tokenizer.chat_template or "")])
        start = "\ue000"
        while start in known:  # one more than the longest run of them
            start += "\ue000"
        return cls(start + "\ue002")

    def mark(self, number: int) -> str:
        return f"{self.start}{number}\ue001"

    def split(self, text: str) -> list[str]:
        """Texts and, between them, the numbers of the marks."""
        return re.split(f"{self.start}(\\d+)\ue001", text)


def _slots(agent: PlanAgent, contents: Mapping[str, Content]) -> list[str]:
    """The names of an agent's placeholders, then those of contents that have none; marks are numbered like this."""
    own = [part.name for part in (*(agent.system or ()), *agent.user) if isinstance(part, Slot)]
    return list(dict.fromkeys([*own, *contents]))


def _render(base: Base, agent: PlanAgent, contents: Mapping[str, Content], found: Marks) -> str:
    """The prompt through the chat template, with marks where placeholders stand: a template never sees a value."""
    from jinja2.exceptions import TemplateError

    names = _slots(agent, contents)
    marks = {name: found.mark(i) for i, name in enumerate(names)}
    own = {part.name for part in (*(agent.system or ()), *agent.user) if isinstance(part, Slot)}
    before = [
        f"{name}: {marks[name]}\n\n" if isinstance(content, str) else marks[name]
        for name, content in contents.items()
        if name not in own
    ]
    system = None if agent.system is None else _fill(agent.system, marks)
    user = "".join(before) + _fill(agent.user, marks)
    if not base.tokenizer.chat_template:
        return user if system is None else f"{system}\n\n{user}"
    messages = [] if system is None else [{"role": "system", "content": system}]
    messages.append({"role": "user", "content": user})
    try:
        text = base.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    except TemplateError as error:
        hint = "move the `system` text into `user`" if system is not None else None
        raise fail("E0620", f"the model's chat template refuses agent `{agent.name}`: {error}", hint=hint) from None
    assert isinstance(text, str)
    return text


def _fill(template: Template, marks: Mapping[str, str]) -> str:
    return "".join(marks[part.name] if isinstance(part, Slot) else part for part in template)


def _tokens(base: Base, run: Sequence[tuple[str, str | None]], spans: bool) -> list[tuple[int, str | None, int]]:
    """The tokens of a text in pieces: id, whose value its end lies in (None: nobody's), how many of that value's
    characters there are up to there."""
    whole = "".join(piece for piece, _ in run)
    if not whole:
        return []
    template = [special for piece, whose in run if whose is None for special in base.special.findall(piece)]
    if base.special.findall(whole) == template:
        parts = [(whole, True)]
    else:
        # Values spell special tokens. Cut at the template's own; all else is the characters that it is.
        parts = []
        for piece, whose in run:
            for part in base.special.split(piece) if whose is None else [piece]:
                special = whose is None and base.special.fullmatch(part) is not None
                if parts and not special and not parts[-1][1]:
                    parts[-1] = (parts[-1][0] + part, False)
                elif part:
                    parts.append((part, special))
    owners = [(whose, len(piece)) for piece, whose in run]
    found: list[tuple[int, str | None, int]] = []
    at = 0
    for part, special in parts:
        with TOKENIZING:
            coded = base.tokenizer(
                part, add_special_tokens=False, split_special_tokens=not special, return_offsets_mapping=spans
            )
        ends = [at + end for _, end in coded.offset_mapping] if spans else [0] * len(coded.input_ids)
        found += [
            (i, *(_owner(owners, end) if spans else (None, 0))) for i, end in zip(coded.input_ids, ends, strict=True)
        ]
        at += len(part)
    return found


def _owner(owners: Sequence[tuple[str | None, int]], end: int) -> tuple[str | None, int]:
    """In whose piece the character before `end` lies, and how many characters of the piece there are up to it."""
    for whose, length in owners:
        if 0 < end <= length:
            return whose, end
        end -= length
    return None, 0


def prompt_ids(base: Base, agent: PlanAgent, row: Row, index: int, inputs: Collection[str] | None = None) -> list[int]:
    """The token ids of an agent's prompt for one row, nothing sent to it. inputs: which placeholders the row fills
    (None: all)."""
    slots = [part.name for part in (*(agent.system or ()), *agent.user) if isinstance(part, Slot)]
    contents = {name: value(row, name, index) for name in slots if inputs is None or name in inputs}
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


def answer_ids(base: Base, text: str) -> list[int]:
    """A label: the answer's tokens, tokenised apart from the prompt, and the end-of-turn token."""
    return [*_ids(base, text, special=False), base.end_of_turn]


def _ids(base: Base, text: str, special: bool) -> list[int]:
    with TOKENIZING:
        ids = base.tokenizer(text, add_special_tokens=False, split_special_tokens=not special).input_ids
    return list(ids)
