"""Functions of one's own as scorers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import masc
from masc.backends.scoring.registry import scorer_of
from masc.backends.torch.evaluation.evaluate import evaluate
from masc.dsl.diagnostics import MascError
from support import ROWS, chain, make_program


def shares(said: str, gold: str, row: Mapping[str, Any]) -> float:
    return 0.25 if row["answer"] == gold else 0.0


def test_a_function_scores(tiny: Path) -> None:
    program = make_program(chain(("b", 0, "norm")), tiny)
    report, items = evaluate(program, ROWS, shares)
    assert (report.accuracy, report.correct) == (0.25, 0)
    assert report.low < 0.25 < report.high
    assert [(item.score, item.correct) for item in items] == [(0.25, False)] * len(ROWS)
    assert masc.evaluate(program, ROWS, scorer=lambda said, gold, row: True).correct == len(ROWS)


def code_of(caught: pytest.ExceptionInfo[MascError]) -> str:
    return caught.value.diagnostics[0].code


@pytest.mark.parametrize("given", [2.0, -0.1, float("nan"), "right", None])
def test_what_is_no_score_is_told(given: Any) -> None:
    with pytest.raises(MascError) as caught:
        scorer_of(lambda said, gold, row: given).score("a", "b", {})
    assert code_of(caught) == "E0661"


def test_a_function_of_too_little_is_told_at_once(tiny: Path) -> None:
    program = make_program(chain(("b", 0, "norm")), tiny)
    for scorer, code in ((lambda said, gold: True, "E0661"), (3, "E0611")):
        with pytest.raises(MascError) as caught:
            masc.evaluate(program, ROWS, scorer=scorer)
        assert code_of(caught) == code
