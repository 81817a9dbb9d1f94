"""The named scorers as they are told of: options that take one, the commands' help and checks and docs/scoring.md come
from here. What they compute is in `backends/scoring`."""

from __future__ import annotations

from dataclasses import dataclass

from masc.dsl.diagnostics import did_you_mean


@dataclass(frozen=True)
class Declaration:
    """help: what the scorer counts as right, in one line; runs_code: whether it runs what a model wrote."""

    name: str
    help: str
    runs_code: bool = False


DECLARED = (
    Declaration("exact", "the same text, but for blanks and a full stop at the end"),
    Declaration("number", "the same number, however it is written"),
    Declaration("math", "the same value or expression, by math-verify"),
    Declaration("choice", "the same option is chosen"),
    Declaration("code", "the code passes the row's tests", runs_code=True),
)


def scorer_names(code: bool = True) -> str:
    """The names as a list in a sentence: `exact, number, math, choice or code`."""
    names = [one.name for one in DECLARED if code or not one.runs_code]
    return f"{', '.join(names[:-1])} or {names[-1]}"


def scorer_problem(name: str, code: bool = True) -> str | None:
    """A complaint about the name of a scorer, or None. code: whether one that runs code is among the choices."""
    known = [one.name for one in DECLARED if code or not one.runs_code]
    if name not in known and any(one.name == name for one in DECLARED):
        return f"the scorer `{name}` runs what a model wrote; only `masc eval` and `masc compare` can"
    hint = did_you_mean(name, known) or f"known are {', '.join(known)}"
    return None if name in known else f"unknown scorer `{name}`: {hint}"


def runs_code(scorer: object) -> bool:
    """Whether a scorer (its name, a `Scorer`, a function) runs what a model wrote, and so needs the tests of a row, not
    its gold answer."""
    if isinstance(scorer, str):
        return any(one.runs_code for one in DECLARED if one.name == scorer)
    return bool(getattr(scorer, "runs_code", False))
