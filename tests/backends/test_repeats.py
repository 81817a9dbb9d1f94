"""Several sampled answers to a row: the estimators against counting, sampling against the batch."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

import masc
from masc.backends.torch.evaluation.evaluate import evaluate
from masc.backends.torch.evaluation.repeats import interval, majority, pass_at, sizes
from masc.backends.torch.evaluation.statistics import wilson
from masc.compiler.analysis.decoding import Decoding
from support import ROWS, chain, make_program

SAMPLED = Decoding(temperature=1.5, max_tokens=5, seed=3)
TEAM = chain(("a", 1, "norm"), ("b", 0, "norm"))


@pytest.mark.parametrize(("right", "samples"), [(0, 5), (1, 5), (3, 7), (5, 5)])
def test_pass_at_k_is_the_share_of_draws_with_a_right_answer(right: int, samples: int) -> None:
    answers = [i < right for i in range(samples)]
    for k in range(1, samples + 1):
        draws = [any(draw) for draw in combinations(answers, k)]
        assert pass_at(right, samples, k) == pytest.approx(sum(draws) / len(draws))


def test_pass_at_k_of_more_than_there_are_is_an_error() -> None:
    with pytest.raises(ValueError, match="pass@9"):
        pass_at(1, 8, 9)


def test_which_k_are_told() -> None:
    assert [sizes(n) for n in (2, 3, 8, 10)] == [[1, 2], [1, 2, 3], [1, 2, 4, 8], [1, 2, 4, 8, 10]]


@pytest.mark.parametrize(
    ("answers", "share"),
    [
        ([("4", True), ("5", False), ("4", True)], 1.0),
        ([("4", True), ("5", False), ("5", False)], 0.0),
        ([("4", True), ("5", False)], 0.5),  # one of the two is drawn
        ([("", False), ("", False), ("4", True)], 1.0),  # nothing said is no vote
        ([("", False), ("", False)], 0.0),
    ],
)
def test_majority(answers: list[tuple[str, bool]], share: float) -> None:
    assert majority(answers) == share


def test_the_interval_of_one_answer_a_row_is_wilsons() -> None:
    assert interval([1.0, 0.0, 1.0, 1.0, 0.0, 1.0], 1) == pytest.approx(wilson(4, 6))


def test_the_interval_narrows_with_what_samples_tell_and_no_further() -> None:
    alike, mixed = [1.0] * 10 + [0.0] * 10, [0.5, 0.375, 0.625, 0.5] * 5
    assert interval(alike, 8) == pytest.approx(wilson(10, 20))  # samples add nothing
    low, high = interval(mixed, 8)
    assert wilson(80, 160)[0] - 1e-9 <= low
    assert low > wilson(10, 20)[0] + 0.05
    assert high < wilson(10, 20)[1] - 0.05
    assert interval([1.0] * 5, 8) == pytest.approx(wilson(5, 5))


def test_the_interval_holds_the_truth_often_enough() -> None:
    """Over rows drawn anew: some hard, some easy, some in between."""
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        hard = generator.beta(0.5, 0.5, size=25)
        low, high = interval((generator.binomial(8, hard) / 8).tolist(), 8)
        held += low <= 0.5 <= high
    assert held / 400 > 0.92


def test_a_sample_depends_on_its_row_and_number_alone(tiny: Path) -> None:
    program = make_program(TEAM, tiny)
    every = [evaluate(program, ROWS, repeat=3, decoding=SAMPLED, batch=size)[1] for size in (1, 5, 64)]
    assert every[0] == every[1] == every[2]
    said = [item.said for item in every[0]]
    assert [(item.index, item.sample) for item in every[0]] == [(i, k) for i in range(len(ROWS)) for k in range(3)]
    assert len(set(said)) > len(ROWS)  # other samples say something else
    once = [item.said for item in evaluate(program, ROWS, decoding=SAMPLED)[1]]
    assert once == said[::3]  # the first sample is what one answer a row gives
    more = [item.said for item in evaluate(program, ROWS, repeat=4, decoding=SAMPLED)[1]]
    assert [more[i * 4 + k] for i in range(len(ROWS)) for k in range(3)] == said  # more samples leave the first ones
    other = evaluate(program, ROWS, repeat=3, decoding=Decoding(temperature=1.5, max_tokens=5, seed=4))[1]
    assert [item.said for item in other] != said


def test_the_numbers_of_a_report_are_those_of_its_items(tiny: Path) -> None:
    program = make_program(TEAM, tiny)
    once = evaluate(program, ROWS, repeat=4, decoding=SAMPLED)[1]
    rows = [dict(row, answer=once[4 * i + (i > 1)].said) for i, row in enumerate(ROWS)]  # each is said at least once
    report, items = evaluate(program, rows, repeat=4, decoding=SAMPLED)
    shares = [sum(item.correct for item in items if item.index == i) / 4 for i in range(len(rows))]
    assert report.correct == sum(item.correct for item in items) >= len(rows)
    assert report.accuracy == pytest.approx(sum(shares) / len(rows)) == pytest.approx(report.pass_at[1])
    assert report.pass_at[4] == 1.0
    assert report.accuracy <= report.pass_at[2] <= 1.0
    assert report.low <= report.accuracy <= report.high
    assert report.majority is not None
    assert report.items == len(rows)
    assert report.latent_steps == 4 * len(rows)
    assert report.decoding["answer"]["temperature"] == 1.5


def test_greedy_answers_cannot_be_repeated(tiny: Path) -> None:
    program = make_program(TEAM, tiny)
    with pytest.raises(masc.MascError) as error:
        masc.evaluate(program, ROWS, repeat=8)
    assert error.value.diagnostics[0].code == "E0670"
    assert "--temperature" in (error.value.diagnostics[0].hint or "")


def test_generate_takes_decoding(tiny: Path) -> None:
    program = make_program(TEAM, tiny)
    greedy = program.generate(ROWS)
    assert program.generate(ROWS, temperature=0) == greedy
    assert program.generate(ROWS, max_tokens=2) != greedy
    sampled = program.generate(ROWS, temperature=2.0, seed=1)
    assert sampled == program.generate(ROWS, temperature=2.0, seed=1) != program.generate(ROWS, temperature=2.0, seed=2)
    assert program.generate(ROWS) == greedy  # nothing stays
    assert "".join(program.generate(ROWS[:1], stream=True, temperature=2.0, seed=1)) == sampled[0]
    stops = [next(letter for said in greedy for letter in said[1:] if letter != "\ufffd"), "no such text"]
    assert program.generate(ROWS, stop=stops) == [said.split(stops[0])[0] for said in greedy] != greedy
    with pytest.raises(ValueError, match="stop"):
        program.generate(ROWS, stop=[""])
    wrong = [("temperature", -1.0), ("temperature", float("nan")), ("top_p", 0.0), ("max_tokens", 0), ("seed", -1)]
    for name, value in wrong:
        with pytest.raises(ValueError, match=name):
            program.generate(ROWS, **{name: value})
