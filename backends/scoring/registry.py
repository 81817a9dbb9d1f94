"""The named scorers, one declaration each, and functions as scorers."""

from __future__ import annotations

import hashlib
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from masc.backends.scoring.choices import choice, option_of
from masc.backends.scoring.exact import answer_text, exact
from masc.backends.scoring.mathematics import expression_of, plain_number
from masc.backends.scoring.mathematics import math as mathematics
from masc.backends.scoring.numbers import Number, number, number_of
from masc.compiler.language.scorers import DECLARED, scorer_problem
from masc.dsl.diagnostics import fail

Row = Mapping[str, Any]
Function = Callable[[str, str, Row], bool | float]
"""(what was said, the gold answer, the row) -> right or wrong, or a share of right from 0 to 1."""


@dataclass(frozen=True)
class Scorer:
    """One way to compare. help: what it counts as right, in one line; gist: of (said, gold), what of an answer it looks
    at: two answers with the same gist are the same answer to it; runs_code: whether it runs what a model wrote."""

    name: str
    help: str
    function: Function
    gist: Callable[[str, str], str] = lambda said, gold: answer_text(said)
    runs_code: bool = False
    mark: str = ""
    """Of a function of the user's: a hash of its text, by which a comparison knows that it has changed."""

    def score(self, said: str, gold: str, row: Row) -> float:
        """From 0 (wrong) to 1 (right). E0661 where a function gives something else."""
        found = self.function(said, gold, row)
        try:
            share = float(found)
        except (TypeError, ValueError):
            share = math.nan
        if not 0.0 <= share <= 1.0:
            hint = "True, False, or a number from 0 to 1"
            raise fail("E0661", f"the scorer `{self.name}` gave {str(found)[:80]!r}", hint=hint)
        return share


def _named(function: Callable[[str, str], bool]) -> Function:
    return lambda said, gold, row: function(said, gold)


def _run(sandbox: str, said: str, gold: str, row: Row) -> bool:
    from masc.backends.scoring.code import passes

    return passes(said, row, sandbox)


def _gist_of_number(said: str, gold: str) -> str:
    found = number_of(said)
    if found is None:
        return answer_text(said)
    return f"= {found.value}" if isinstance(found, Number) else f"= {found.text}"


def _gist_of_choice(said: str, gold: str) -> str:
    found = option_of(said, gold)
    if found is None:
        return answer_text(said)
    return f"= {', '.join(sorted(found))}" if isinstance(found, frozenset) else f"= {found}"


def _gist_of_expression(said: str, gold: str) -> str:
    """The number where there is one, since two ways to write an expression are not held against each other."""
    found = plain_number(said)
    return f"= {found.value}" if found is not None else answer_text(expression_of(said) or said)


_COMPARED: dict[str, tuple[Function, Callable[[str, str], str]]] = {
    "exact": (_named(exact), lambda said, gold: answer_text(said)),
    "number": (_named(number), _gist_of_number),
    "math": (_named(mathematics), _gist_of_expression),
    "choice": (_named(choice), _gist_of_choice),
    "code": (partial(_run, "auto"), lambda said, gold: answer_text(said)),
}
SCORERS: dict[str, Scorer] = {
    one.name: Scorer(one.name, one.help, *_COMPARED[one.name], one.runs_code) for one in DECLARED
}


def declared(scorer: str | Function | Scorer) -> Scorer:
    """What it is called and looks at, without leave or walls: nothing is run. E0611 no such scorer."""
    if isinstance(scorer, str) and scorer in SCORERS:
        return SCORERS[scorer]
    return scorer_of(scorer)


def scorer_of(
    scorer: str | Function | Scorer, *, allow_code_execution: bool = False, sandbox: str = "auto", code: bool = True
) -> Scorer:
    """A scorer by its name, or one made of a function (see `Function`).

    allow_code_execution: leave to run what a model wrote, which `code` does; sandbox: behind which walls it is run;
    code: whether scorers that run code may be used at all. Errors: E0611 no such scorer, or code without leave; E0660
    no walls; E0661 a function that cannot score.
    """
    if isinstance(scorer, Scorer):
        return scorer
    if callable(scorer):
        return _of_function(scorer)
    if (problem := scorer_problem(str(scorer), code)) is not None:
        told, _, hint = problem.partition(": ")
        raise fail("E0611", told, hint=hint or None)
    found = SCORERS[scorer]
    if not found.runs_code:
        return found
    if not allow_code_execution:
        raise fail(
            "E0611", f"the scorer `{scorer}` runs what the model wrote", hint="allow it with --allow-code-execution"
        )
    from masc.backends.scoring.choose_sandbox import sandbox_of

    sandbox_of(sandbox)  # before anything is decoded
    return replace(found, function=partial(_run, sandbox))


def _of_function(function: Callable[..., Any]) -> Scorer:
    """E0661 where it cannot take what was said, the gold answer and the row."""
    name = f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function).__name__)}"
    try:
        inspect.signature(function).bind("", "", {})
    except TypeError as error:
        hint = "a scorer is a function of (said, gold, row)"
        raise fail("E0661", f"`{name}` cannot score: {error}", hint=hint) from None
    except ValueError:  # written in C: nobody knows what it takes
        pass
    try:
        text = inspect.getsource(function)
    except (OSError, TypeError):
        text = name
    return Scorer(name, "a function of yours", function, mark=hashlib.sha256(text.encode()).hexdigest())
