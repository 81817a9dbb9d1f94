"""What training makes better: `objective supervised`, `objective grpo(reward = number)`, and its options.

Each is declared here, and computed in `backends/torch/training`. `Grpo` holds what was read; a test holds that its
fields and defaults are these. How it is printed: `compiler/ir/objective.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final, Literal

from masc.compiler.language.bounds import Bounds, whole
from masc.compiler.language.declare import Aim, Option, table
from masc.compiler.language.options import read_options
from masc.compiler.language.other_names import meant
from masc.compiler.language.scorers import DECLARED
from masc.compiler.language.values import BadValueError, Reader, Scope, mismatch, numeric, plain, word
from masc.dsl.syntax import Call, Name, Value

SUPERVISED: Final = "supervised"


@dataclass(frozen=True)
class Grpo:
    """Group relative policy optimisation (docs/semantics.md, section 10.6). reward: the name of a scorer that runs
    nothing; group: answers to each row; clip: of the ratio to the probability when it was sampled; kl: the weight of
    the distance to the start, 0 = none; updates: steps of the optimiser on one batch of answers."""

    reward: str
    group: int = 8
    clip: float = 0.2
    kl: float = 0.02
    updates: int = 1

    def __str__(self) -> str:
        """As it is written."""
        return f"grpo({', '.join(f'{field.name} = {getattr(self, field.name)}' for field in fields(self))})"


Objective = Literal["supervised"] | Grpo

_NAMED = word(*(one.name for one in DECLARED if not one.runs_code))


def _scorer(scope: Scope, name: str, value: Value) -> str:
    """A scorer that runs nothing: a file never says what is to be executed."""
    if isinstance(value, Name) and any(value.text == one.name and one.runs_code for one in DECLARED):
        message = f"`{name}` takes no scorer that runs what a model wrote, as `{value.text}` does"
        scope.complain("E0405", message, value.span, "from Python any function can be a reward: `masc.grpo(...)`")
        raise BadValueError
    found: str = _NAMED(scope, name, value)
    return found


GRPO: Mapping[str, Option] = table(
    Option(
        "reward",
        Reader(_scorer, _NAMED.schema, _NAMED.words),
        "The scorer that says how good an answer is",
        means="the [scorer](scoring.md) that says how good an answer is: it compares with the column that supervises "
        "the output",
        unset="it must be said",
    ),
    Option("group", numeric(whole(2, 4096)), "Answers that are sampled to each row", 8),
    Option(
        "clip",
        numeric(Bounds(1e-6, 1e3)),
        "How far beside 1 the ratio to a token's probability when it was sampled counts",
        0.2,
    ),
    Option(
        "kl",
        numeric(Bounds(1e-12, 1e3, zero=True)),
        "The weight of the distance to the weights that training began with; 0: none",
        0.02,
    ),
    Option("updates", numeric(whole(1, 4096)), "Steps of the optimiser on one batch of answers", 1),
)
OBJECTIVES: Mapping[str, Aim] = table(
    Aim(SUPERVISED, "The likelihood of the answers that the data tells.", {}),
    Aim(
        "grpo",
        "A reward: answers are sampled from the team, scored, and held against others to the same row (GRPO).",
        GRPO,
        needs=("reward",),
    ),
)
"""What stands behind `objective`."""


def _objective(scope: Scope, name: str, value: Value) -> Objective:
    said = value.name if isinstance(value, Call) else value
    wants = " or ".join(f"`{one.example}`" for one in OBJECTIVES.values())
    if not isinstance(said, Name):
        got, labels = scope.constant(value)
        raise mismatch(scope, name, wants, got, value, labels, meant(plain(value), list(OBJECTIVES)))
    if said.text not in OBJECTIVES:
        scope.complain(
            "E0405", f"`{name}` takes {wants}, not `{said.text}`", said.span, meant(said.text, [*OBJECTIVES])
        )
        raise BadValueError
    chosen = OBJECTIVES[said.text]
    given = value.options if isinstance(value, Call) else ()
    known = len(scope.notes)
    found: dict[str, Any] = read_options(scope, given, chosen.options, f"`{said.text}`")
    for option in chosen.needs:
        if option not in found and len(scope.notes) == known:
            scope.complain("E0407", f"`{said.text}` has no `{option}`", said.span, f"write `{chosen.example}`")
    if len(scope.notes) > known:
        raise BadValueError
    return Grpo(**found) if chosen.options else SUPERVISED


objective = Reader(
    _objective,
    {"enum": [SUPERVISED]},
    words=tuple(OBJECTIVES),
    takes="one of them with options in parentheses",
    type="entry",
)
