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
        return item
    if isinstance(item, bool | int | float):
        return json.dumps(item)
    kind = type(item).__name__
    raise fail("E0607", f"column `{name}` of row {index + 1} is a {kind}, not text or a number")


def _fill(template: Template, values: Mapping[str, str]) -> str:
    return "".join(values[part.name] if isinstance(part, Slot) else part for part in template)


def _render(base: Base, agent: PlanAgent, values: Mapping[str, str]) -> str:
    system = None if agent.system is None else _fill(agent.system, values)
    user = _fill(agent.user, values)
    if not base.tokenizer.chat_template:
        return user if system is None else f"{system}\n\n{user}"
    messages = [] if system is None else [{"role": "system", "content": system}]
    messages.append({"role": "user", "content": user})
    text = base.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert isinstance(text, str)
    return text


def prompt_ids(base: Base, agent: PlanAgent, row: Row, index: int) -> list[int]:
    """The token ids of an agent's prompt for one row (index: its number, for errors)."""
    names = [part.name for part in (*(agent.system or ()), *agent.user) if isinstance(part, Slot)]
    values = {name: value(row, name, index) for name in names}
    special = [token for token in base.tokenizer.all_special_tokens if token]
    if not any(token in text for text in values.values() for token in special):
        return _ids(base, _render(base, agent, values), special=True)
    # Render with marks in place of the values, cut at the template's own special tokens, and only then put the
    # values in.
    marks = {name: f"\ue000{i}\ue001" for i, name in enumerate(values)}
    text = _render(base, agent, marks)
    ids: list[int] = []
    for piece in re.split("(" + "|".join(map(re.escape, sorted(special, key=len, reverse=True))) + ")", text):
        if piece in special:
            ids.append(base.tokenizer.convert_tokens_to_ids(piece))
        elif piece:
            for name, mark in marks.items():
                piece = piece.replace(mark, values[name])
            ids.extend(_ids(base, piece, special=False))
    return ids


def answer_ids(base: Base, text: str) -> list[int]:
    """A label: the answer's tokens, tokenised apart from the prompt, and the end-of-turn token."""
    return [*_ids(base, text, special=False), base.end_of_turn]


def _ids(base: Base, text: str, special: bool) -> list[int]:
    ids = base.tokenizer(text, add_special_tokens=False, split_special_tokens=not special).input_ids
    return list(ids)
