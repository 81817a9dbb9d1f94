"""Scorers, intervals, and the numbers of a report."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from masc.backends.torch.evaluation.evaluate import evaluate, say_all
from masc.backends.torch.evaluation.statistics import wilson
from masc.dsl.diagnostics import MascError
from support import ROWS, WALLS, chain, make_model, make_program


def test_wilson_against_known_values() -> None:
    """Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662; 0 of 20 gives 0 to 0.1611."""
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)


def test_a_report_adds_up(tiny: Path) -> None:
    program = make_program(chain(("a", 2, "norm"), ("b", 1, "norm")), tiny)
    ticks: list[int] = []
    report, items = evaluate(program, ROWS, "exact", batch=3, tick=ticks.append)
    assert [item.index for item in items] == [0, 1, 2, 3]
    assert sum(ticks) == report.items == 4
    assert report.latent_steps == 4 * 3
    said = program.say(ROWS)
    assert [item.said for item in items] == [one["answer"].text for one in said]
    assert report.tokens_decoded == sum(len(one["answer"].ids) for one in said)
    logprob, scored = sum(one["answer"].logprob for one in said), sum(one["answer"].scored for one in said)
    assert report.decoded_perplexity == pytest.approx(math.exp(-logprob / scored), rel=1e-3)
    with torch.no_grad():
        outs = [program([row]) for row in ROWS]
    loss = sum(float(o.loss) * o.tokens for o in outs) / sum(o.tokens for o in outs)
    assert report.gold_perplexity == pytest.approx(math.exp(loss), rel=1e-3)
    right = evaluate(program, [{**row, "answer": item.said} for row, item in zip(ROWS, items, strict=True)])[0]
    assert right.accuracy == 1.0


def test_an_empty_gold_answer_is_an_answer(tiny: Path) -> None:
    program = make_program(chain(("b", 0, "norm")), tiny)
    rows = [{**ROWS[0], "answer": ""}, ROWS[1]]
    report, _ = evaluate(program, rows, batch=2)
    with torch.no_grad():
        assert report.gold_perplexity == pytest.approx(math.exp(float(program(rows).loss)), rel=1e-4)
    assert json.loads(json.dumps(report.json()))["gold_perplexity"] == report.gold_perplexity


def test_code_is_scored_with_or_without_gold_answers(tiny: Path) -> None:
    program = make_program(chain(("b", 0, "norm")), tiny)
    rows = [{"q": "x", "test": "assert False"}, {"q": "y", "test": "assert False"}]
    report, items = evaluate(program, rows, "code", allow_code_execution=True, sandbox=WALLS)
    assert [item.gold for item in items] == ["", ""]
    assert report.correct == 0
    assert math.isnan(report.gold_perplexity)
    assert report.json()["gold_perplexity"] is None
    with pytest.raises(MascError, match="row 2 has no column `test`"):
        evaluate(program, [rows[0], ROWS[1]], "code", allow_code_execution=True, sandbox=WALLS)


def test_errors_name_the_row_of_the_data(tmp_path: Path) -> None:
    program = make_program(chain(("b", 0, "norm")), make_model(tmp_path / "m", max_position_embeddings=96))
    for long in ({"q": "x" * 200, "answer": "y"}, {"q": "x", "answer": "y" * 200}):
        with pytest.raises(MascError, match="row 4 needs"):
            evaluate(program, [*[{"q": "x", "answer": "y"}] * 3, long], batch=2)


def test_results_do_not_depend_on_the_batch_size(tiny: Path) -> None:
    program = make_program(chain(("a", 2, "norm"), ("b", 1, "norm")), tiny)
    runs = [{i: said["answer"].text for i, said in say_all(program, ROWS, size)} for size in (1, 2, 4)]
    assert runs[0] == runs[1] == runs[2]
    assert {i for i, _ in say_all(program, ROWS, 2, frozenset({1, 3}))} == {0, 2}


def test_wrong_wishes_are_told(tiny: Path) -> None:
    program = make_program(chain(("b", 0, "norm")), tiny)
    for options, told in (
        ({"scorer": "exakt"}, "unknown scorer"),
        ({"scorer": "code"}, "runs what the model wrote"),
        ({"output": "anser"}, "no output"),
    ):
        with pytest.raises(MascError, match=told):
            evaluate(program, ROWS, **options)
    with pytest.raises(MascError, match="no rows"):
        evaluate(program, [])
