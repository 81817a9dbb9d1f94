"""How an objective stands in a printed plan. They are declared in `compiler/language/objectives.py`."""

from __future__ import annotations

from dataclasses import fields

from masc.compiler.ir.lines import Line
from masc.compiler.ir.words import number_text
from masc.compiler.language.objectives import SUPERVISED, Grpo, Objective


def objective_text(objective: Objective) -> str:
    """As a printed plan has it."""
    if not isinstance(objective, Grpo):
        return objective
    values = ((field.name, getattr(objective, field.name)) for field in fields(objective))
    return f"grpo({', '.join(f'{n}={v if isinstance(v, str) else number_text(v)}' for n, v in values)})"


def parse_objective(line: Line) -> Objective:
    """The other way round."""
    if line.word(SUPERVISED, "grpo") == SUPERVISED:
        return SUPERVISED
    line.need("(")
    found: dict[str, str | int | float] = {}
    for number, field in enumerate(fields(Grpo)):
        if number:
            line.need(",")
        line.need(field.name)
        line.need("=")
        match str(field.type):
            case "str":
                found[field.name] = line.name()
            case "int":
                found[field.name] = line.integer()
            case _:
                found[field.name] = line.real()
    line.need(")")
    return Grpo(**found)  # type: ignore[arg-type]
