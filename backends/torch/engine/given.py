"""Answers that are given as token ids, instead of as the text of a column."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from masc.compiler.ir.plan import Plan

Tokens = Sequence[Sequence[int]]
"""Token ids, for each row."""


def check_given(plan: Plan, given: Mapping[str, Tokens], rows: int, group: int, words: Callable[[str], int]) -> None:
    """ValueError for what is no answer to each of so many rows, nor a group of answers to each. words: how many tokens
    an agent's model knows."""
    if group < 1:
        raise ValueError(f"`group` is {group}: a row has at least one answer")
    known = {turn.said: turn for turn in plan.answering}
    for name, answers in given.items():
        if name not in known:
            raise ValueError(f"nothing that is said is called `{name}`: there is {', '.join(known)}")
        if len(answers) not in {rows, rows * group}:
            each = f", {group} to each" if group > 1 else ""
            raise ValueError(f"`{name}` has {len(answers)} answers for {rows} rows{each}")
        last = words(known[name].agent) - 1
        for number, ids in enumerate(answers, 1):
            if not ids or not all(0 <= one <= last for one in ids):
                raise ValueError(f"answer {number} of `{name}` is no list of token ids from 0 to {last}")
