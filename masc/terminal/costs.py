"""The cost of a team, as tables of 80 columns and as JSON."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

from masc.compiler.cost.cards import CARDS, Fit
from masc.compiler.cost.cost import Cost, Side, TurnCost
from masc.compiler.cost.memory import Memory

_UNITS = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_PARTS = {
    "weights": "weights of the base models",
    "adapters": "adapters and links (float32)",
    "optimiser": "gradients and AdamW's means",
    "folded": "copies with adapters folded in",
    "caches": "keys, values, hidden states",
    "kept": "kept for the backward pass",
    "logits": "logits of answers (float32)",
    "working": "the layer at work",
}


def amount(number: float, unit: str) -> str:
    """`1.23 GB`; three digits, in steps of a thousand."""
    for size, prefix in _UNITS:
        if number >= size:
            return f"{_three_digits(number / size)} {prefix}{unit}"
    return f"{number:.0f} {unit}" if number else "-"


def seconds(number: float | None) -> str:
    if number is None:
        return "-"
    for size, unit in ((1, "s"), (1e-3, "ms"), (1e-6, "us")):
        if number >= size:
            return f"{_three_digits(number / size)} {unit}"
    return f"{_three_digits(number / 1e-9)} ns"


def _three_digits(number: float) -> str:
    """Never as a power of ten."""
    return f"{number:.0f}" if number >= 99.95 else f"{number:.3g}"


def line(cost: Cost) -> str:
    """In one line, for `masc compile` and hover."""
    run, train = cost.running, cost.training
    text = f"a row runs {run.positions:,} positions ({amount(run.work.total, 'FLOP')})"
    text += f"; memory in {cost.dtype}: {amount(run.memory.peak, 'B')} to run {run.batch} rows"
    if train is not None:
        text += f", {amount(train.memory.peak, 'B')} to train on {train.batch}"
    return f"{text} (`masc cost`)"


def show(cost: Cost, chosen: bool) -> None:
    """Print it all. chosen: a device was named."""
    from rich.console import Console

    from masc.terminal.streams import wants_color

    width = max(80, min(Console().width, 100))
    console = Console(highlight=False, no_color=not wants_color(sys.stdout), width=width)
    for part in _tables(cost, chosen):
        console.print(part, markup=False) if isinstance(part, str) else console.print(part)


def _tables(cost: Cost, chosen: bool) -> Iterable[Any]:
    models = ", ".join(f"{target} ({amount(count, '').strip()} parameters)" for _, target, count in cost.models)
    yield f"{cost.name} on {models}, {cost.dtype}"
    yield f"lengths: {cost.lengths}"
    yield from (f"note: {note}" for note in cost.notes)
    yield ""
    yield _turns("One row, running", cost.running, "says", "cache", lambda turn: turn.cache)
    if cost.training is not None:
        yield _turns("One row, training", cost.training, "label", "kept", lambda turn: turn.kept)
    if cost.text is not None:
        yield _beside(cost.running, cost.text)
    yield _memory(cost)
    yield _fits(cost, chosen)


def _table(title: str, *names: str) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for i, name in enumerate(names):
        table.add_column(name, justify="left" if i == 0 else "right", overflow="fold", no_wrap=i > 0)
    return table


def _turns(title: str, side: Side, said: str, held: str, of: Any) -> Any:
    table = _table(title, "turn", "prompt", "latents", said, "sees", "positions", "FLOPs", held)
    for turn in side.turns:
        made = turn.written
        numbers = (made.prompt, made.latents, made.answer, made.seen, made.positions)
        table.add_row(turn.activation, *map(_count, numbers), *_sizes(turn, of))
    whole = _sum(side, of)
    table.add_section()
    table.add_row("all", *whole)
    return table


def _sizes(turn: TurnCost, of: Any) -> tuple[str, str]:
    return amount(turn.work.total, "FLOP"), amount(of(turn), "B")


def _sum(side: Side, of: Any) -> Sequence[str]:
    made = [turn.written for turn in side.turns]
    numbers = (
        sum(one.prompt for one in made),
        sum(one.latents for one in made),
        sum(one.answer for one in made),
        "",
        side.positions,
    )
    return [
        *(each if isinstance(each, str) else _count(each) for each in numbers),
        amount(side.work.total, "FLOP"),
        amount(sum(of(turn) for turn in side.turns), "B"),
    ]


def _count(number: int) -> str:
    return f"{number:,}" if number else "-"


def _beside(team: Side, text: Side) -> Any:
    table = _table("One row, beside the same team in words", "", "this team", "in words", "in words / this")
    rows = (
        ("positions", team.positions, text.positions, ""),
        ("tokens said", team.decoded, text.decoded, ""),
        ("passes one after the other", passes(team), passes(text), ""),
        ("FLOPs", team.work.total, text.work.total, "FLOP"),
        ("cache of all turns", team.cache, text.cache, "B"),
        (f"memory at batch {team.batch}", team.memory.peak, text.memory.peak, "B"),
    )
    for name, own, theirs, unit in rows:
        shown = [amount(each, unit) if unit else _count(int(each)) for each in (own, theirs)]
        table.add_row(name, *shown, f"{theirs / own:.2g}" if own else "-")
    return table


def passes(side: Side) -> int:
    """Passes through a model, one behind the other."""
    return sum(one.times for turn in side.turns for one in turn.written.passes)


def _memory(cost: Cost) -> Any:
    sides = [("running", cost.running)] + ([("training", cost.training)] if cost.training is not None else [])
    names = [f"{name}, batch {side.batch}" for name, side in sides]
    table = _table("Memory at the peak", "", *names)
    for field in fields(Memory):
        numbers = [getattr(side.memory, field.name) for _, side in sides]
        if any(numbers):
            table.add_row(_PARTS[field.name], *(amount(number, "B") for number in numbers))
    table.add_section()
    table.add_row("all", *(amount(side.memory.peak, "B") for _, side in sides))
    return table


def _fits(cost: Cost, chosen: bool) -> Any:
    named = cost.fits[0].card.name if chosen else ""
    table = _table(f"On {named}" if chosen else "Devices", "device", *_HEADS)
    for fit in cost.fits:
        size = "" if fit.card.name not in CARDS else f" ({fit.card.memory / 2**30:.0f} GiB)"
        table.add_row(
            fit.card.name + size,
            _fitting(fit.runs, fit.rows),
            seconds(fit.token),
            _fitting(fit.trains, fit.trained),
            seconds(fit.step),
        )
    table.caption = _CAPTION
    table.caption_justify = "left"
    return table


_HEADS = ("runs, at most", "a token >=", "trains, at most", "a step >=")
_CAPTION = (
    "at most: rows in a batch. Floors, not forecasts: a token reads the weights and the caches of its batch once "
    "(bytes / bandwidth), a step computes its products (FLOPs / dense bf16 rate)."
)


def _fitting(fits: bool | None, rows: int | None) -> str:
    if fits is None or rows is None:
        return "-"
    return f"{'yes' if fits else 'no'}, {rows:,}"


def to_json(cost: Cost) -> dict[str, Any]:
    """All of it. Bytes, FLOPs and seconds as numbers; what is not known is null."""
    return {
        "name": cost.name,
        "dtype": cost.dtype,
        "models": [{"name": name, "target": target, "parameters": count} for name, target, count in cost.models],
        "trained_parameters": cost.trained,
        "lengths": cost.lengths,
        "notes": list(cost.notes),
        "running": _side_json(cost.running),
        "training": None if cost.training is None else _side_json(cost.training),
        "text": None if cost.text is None else _side_json(cost.text),
        "devices": [_fit_json(fit) for fit in cost.fits],
    }


def _side_json(side: Side) -> dict[str, Any]:
    row: dict[str, Any] = {"positions": side.positions, "tokens_said": side.decoded, "passes": passes(side)}
    row |= {"flops": side.work.total, "cache_bytes": side.cache, "kept_bytes": side.kept}
    memory = {field.name: getattr(side.memory, field.name) for field in fields(Memory)}
    return {
        "row": row | {"turns": [_turn_json(turn) for turn in side.turns]},
        "batch": side.batch,
        "step_flops": side.step.total,
        "memory_bytes": memory | {"peak": side.memory.peak},
    }


def _turn_json(turn: TurnCost) -> dict[str, Any]:
    made = turn.written
    return {
        "turn": turn.activation,
        "prompt": made.prompt,
        "latents": made.latents,
        "answer": made.answer,
        "sees": made.seen,
        "positions": made.positions,
        "flops": {"forward": turn.work.forward, "backward": turn.work.backward},
        "cache_bytes": turn.cache,
        "kept_bytes": turn.kept,
    }


def _fit_json(fit: Fit) -> dict[str, Any]:
    return {
        "device": fit.card.name,
        "memory_bytes": fit.card.memory,
        "runs": fit.runs,
        "most_rows_running": fit.rows,
        "trains": fit.trains,
        "most_rows_training": fit.trained,
        "token_seconds_at_least": fit.token,
        "step_seconds_at_least": fit.step,
    }
