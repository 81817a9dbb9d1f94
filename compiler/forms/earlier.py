"""How a plan was printed before it was made of turns: weights that were trained then are known by a hash of that text.

An operation a line, aligned; every segment that an activation sees is listed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace

from masc.compiler.analysis.sights import Sights, sight
from masc.compiler.forms.essence import bare, without_later
from masc.compiler.forms.plan_text import answer_text, loss_text, place_text, print_plan, think_text, view_text
from masc.compiler.ir.plan import Plan, Turn, View
from masc.dsl.limits import VIEWS


def earlier_fingerprint(plan: Plan, decoding: bool = False) -> str | None:
    """What `fingerprint` was. None: the plan lists more segments than one could have then."""
    plain = bare(plan, decoding)
    if (seen := _listed(plain)) is None:
        return None
    head, tail = _around(plain)
    text = "".join(f"{line}\n" for line in (*head, *(f"  {line}" for line in _operations(plain, seen)), *tail))
    return hashlib.sha256(text.encode()).hexdigest()


def _listed(plan: Plan) -> Sights | None:
    """What every turn sees, listed only as far as there was room for it."""
    seen: Sights = {}
    total = 0
    for turn in plan.turns:
        seen[turn.activation] = sight(turn, seen)
        total += len(seen[turn.activation])
        if total > VIEWS:
            return None
    return seen


def _around(plan: Plan) -> tuple[list[str], list[str]]:
    """What is printed as it was: what comes before the turns, and the train block."""
    lines = without_later(print_plan(replace(plan, turns=(), losses=()))).splitlines()
    train = lines.index("  train")
    return lines[:train], lines[train:]


def _operations(plan: Plan, seen: Sights) -> Iterator[str]:
    """Three columns (what, whom, how) and for prefills a fourth (where)."""
    rows = [row for turn in plan.turns for row in _rows(turn, seen[turn.activation])]
    for loss in plan.losses:
        column = loss_text(loss).partition("column=")[2].removesuffix(" reaches")
        rows.append(("loss", loss.output, f"column={column} reaches "))
    subject = max((len(row[1]) for row in rows), default=0)
    how = max((len(row[2]) for row in rows if len(row) > 3 and len(row[2]) <= 60), default=0)
    for kind, whom, first, *rest in rows:
        line = f"{kind:<7} {whom:<{subject}} "
        yield (line + (f"{first:<{how}} {rest[0]}" if rest else first)).rstrip()


def _rows(turn: Turn, views: tuple[View, ...]) -> Iterator[tuple[str, ...]]:
    words = [f"sees [{', '.join(map(view_text, views))}]"]
    for word in dict.fromkeys(arrival.word for arrival in turn.arrives):
        words.append(f"{word} [{', '.join(arrival.text for arrival in turn.arrives if arrival.word == word)}]")
    rank = {view.segment: i for i, view in reversed(list(enumerate(views)))}
    at = tuple(sorted(turn.at, key=lambda end: rank.get(end.segment, 0)))
    yield "prefill", turn.activation, " ".join(words), f"at {place_text(at)}"
    if turn.think is not None:
        yield "think", turn.activation, think_text(turn.think).removeprefix("think ")
    if turn.answer is not None:
        yield "answer", turn.activation, answer_text(turn.answer).removeprefix("answer ")
