"""From a prompt with `{name}` in it and a row of data to token ids.

Prompts go through the model's chat template. What comes from data is data: a value that spells a special token
(`<|im_end|>`) is tokenised as the characters that it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from masc.backends.torch.base import Base
from masc.compiler.plan import PlanAgent, Slot, Template
from masc.dsl.diagnostics import fail

Row = Mapping[str, Any]


def value(row: Row, name: str, index: int) -> str:
    """A column of a row as text. Strings as they are; numbers and booleans as JSON. E0604, E0607."""
    if name not in row:
        found = ", ".join(f"`{key}`" for key in row) or "nothing"
        raise fail("E0604", f"row {index + 1} has no column `{name}`", hint=f"it has {found}")
    item = row[name]
    if isinstance(item, str):
        if any("\ud800" <= char <= "\udfff" for char in item):
            raise fail("E0607", f"column `{name}` of row {index + 1} holds half a character (a lone surrogate)")
        return item
    if isinstance(item, bool | int | float):
        return json.dumps(item)
    kind = type(item).__name__
    raise fail("E0607", f"column `{name}` of row {index + 1} is a {kind}, not text or a number")


def _fill(template: Template, values: Mapping[str, str]) -> str:
    return "".join(values[part.name] if isinstance(part, Slot) else part for part in template)


def _render(base: Base, agent: PlanAgent, values: Mapping[str, str]) -> str:
    from jinja2.exceptions import TemplateError

    system = None if agent.system is None else _fill(agent.system, values)
    user = _fill(agent.user, values)
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


def prompt_ids(base: Base, agent: PlanAgent, row: Row, index: int) -> list[int]:
    """The token ids of an agent's prompt for one row (index: its number, for errors). E0619 if there are none."""
    names = [part.name for part in (*(agent.system or ()), *agent.user) if isinstance(part, Slot)]
    values = {name: value(row, name, index) for name in names}
    text = _render(base, agent, values)
    marks = {name: f"\ue000{i}\ue001" for i, name in enumerate(values)}
    marked = _render(base, agent, marks)
    if _specials(base, text) == _specials(base, marked):
        ids = _ids(base, text, special=True)
    else:
        # Values spell special tokens. Cut the text, marks in place of the values, at the template's own special tokens,
        # and only then put the values in, as the characters that they are.
        ids = []
        for piece in base.special.split(marked):
            if base.special.fullmatch(piece):
                ids.append(base.tokenizer.convert_tokens_to_ids(piece))
            elif piece:
                whole = re.sub("\ue000(\\d+)\ue001", lambda found: list(values.values())[int(found[1])], piece)
                ids.extend(_ids(base, whole, special=False))
    if not ids:
        raise fail("E0619", f"the prompt of agent `{agent.name}` is empty for row {index + 1}")
    return ids


def _specials(base: Base, text: str) -> list[str]:
    return base.special.findall(text)


def answer_ids(base: Base, text: str) -> list[int]:
    """A label: the answer's tokens, tokenised apart from the prompt, and the end-of-turn token."""
    return [*_ids(base, text, special=False), base.end_of_turn]


def _ids(base: Base, text: str, special: bool) -> list[int]:
    ids = base.tokenizer(text, add_special_tokens=False, split_special_tokens=not special).input_ids
    return list(ids)
