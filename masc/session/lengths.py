"""How long a plan's prompts and answers are: measured by the models' tokenizers on rows, or estimated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from masc.compiler.cost.lengths import Length, Lengths
from masc.compiler.cost.passes import Doing
from masc.compiler.ir.plan import Plan, PlanAgent, Slot, Turn, agent_of

Row = Mapping[str, Any]
CHARACTERS = 4
"""Of a token, where no tokenizer tells."""


def lengths_of(
    plan: Plan, folders: Mapping[str, Path | None], doing: Doing, rows: Sequence[Row], prompt: int
) -> list[Lengths]:
    """Of every turn, row by row. folders: of the plan's models, by name (None: estimate). rows: of data; what they do
    not hold, and no row where there is no data, is taken to be as long as it can be: inputs `prompt` tokens, answers
    `max_tokens`."""
    reading = {name: None if folder is None else _texts(folder) for name, folder in folders.items()}
    return [_row(plan, reading, doing, row, prompt) for row in rows or [{}]]


def tokenized(folder: Path | None) -> bool:
    """Whether a model's folder has a tokenizer that can be read here."""
    return folder is not None and _texts(folder) is not None


def _texts(folder: Path) -> Any:
    """A `FolderTexts`, or None where the folder has no tokenizer that can be read without transformers."""
    try:
        return _read(str(folder), (folder / "tokenizer.json").stat().st_mtime_ns)
    except (OSError, ValueError):
        return None


@lru_cache(maxsize=4)
def _read(folder: str, changed: int) -> Any:
    from masc.backends.torch.model.texts import FolderTexts

    return FolderTexts(Path(folder))


def _row(plan: Plan, reading: Mapping[str, Any], doing: Doing, row: Row, prompt: int) -> Lengths:
    columns = {loss.output: loss.column for loss in plan.losses}
    said: dict[str, str | int] = {}
    """By activation, its text, or how many tokens it has at most."""
    found: dict[str, Length] = {}
    for turn in plan.turns:
        agent = plan.agent(turn.agent)
        texts = reading[agent.model]
        answer = 0
        if turn.answer is not None:
            answer = turn.answer.sampling.max_tokens
            said[turn.activation] = answer
            column = columns.get(turn.said)
            if doing == "training" and column is not None and column in row:
                text = said[turn.activation] = _text(row[column])
                answer = _label(texts, text)
        found[turn.activation] = Length(_prompt(texts, agent, turn, plan, row, said, prompt), answer)
    return found


def _prompt(
    texts: Any, agent: PlanAgent, turn: Turn, plan: Plan, row: Row, said: Mapping[str, str | int], prompt: int
) -> int:
    from masc.backends.torch.model.prompts import Content, Vectors, prompt_of

    slots = [part.name for part in (*(agent.system or ()), *agent.user) if isinstance(part, Slot)]
    contents: dict[str, Content] = {name: _text(row[name]) for name in slots if name in plan.inputs and name in row}
    more = prompt * sum(name in plan.inputs and name not in row for name in slots)
    for arrival in turn.arrives:
        name = agent_of(arrival.segment)
        if arrival.keeps == "hidden":
            contents[f"{name}*" if name in contents else name] = Vectors(0, 0)
        elif arrival.keeps == "text":
            words = said[arrival.segment]
            before = contents.get(name)
            more += words * max(1, slots.count(name)) if isinstance(words, int) else 0
            text = "" if isinstance(words, int) else words
            contents[name] = f"{before}\n\n{text}" if isinstance(before, str) and before else text
    if texts is not None:
        return sum(number >= 0 for number in prompt_of(texts, agent, contents).ids) + more
    parts = [contents.get(part.name, "") if isinstance(part, Slot) else part for part in _parts(agent)]
    return _estimate("".join(part for part in parts if isinstance(part, str))) + more


def _parts(agent: PlanAgent) -> list[str | Slot]:
    return [*(agent.system or ()), *agent.user]


def _label(texts: Any, text: str) -> int:
    """With the token that ends it."""
    if texts is None:
        return _estimate(text) + 1
    return len(texts.characters.literal(text, texts.end_of_turn)) + 1


def _estimate(text: str) -> int:
    return -(-len(text) // CHARACTERS)


def _text(value: Any) -> str:
    from masc.backends.torch.data.values import text_of

    try:
        return text_of(value)
    except ValueError:  # whoever trains on it says what is wrong
        return ""
