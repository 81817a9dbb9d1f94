"""Rows that are added while others are decoded, and taken out: what a server does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from graphs import GRAPHS
from masc.backends.torch.engine.fast.live import Answer, Growth, Live
from masc.backends.torch.engine.fast.rows import Job
from masc.backends.torch.engine.walking import Walking
from masc.compiler.analysis.decoding import Decoding
from masc.dsl.diagnostics import MascError
from support import make_program

TEXT = GRAPHS["text beside keys and values"].replace("max_tokens = 5", "max_tokens = 12")
"""Two stages that answer, one behind the other."""
HOW = [
    Decoding(max_tokens=20),
    Decoding(temperature=1.2, top_p=0.9, seed=7, max_tokens=9),
    Decoding(max_tokens=3),
    Decoding(max_tokens=30, stop=("e", "1")),
]


@pytest.fixture(scope="module")
def program(tiny: Path) -> Any:
    made = make_program(TEXT, tiny)
    for base in made.bases.values():
        base.stop_ids = frozenset(range(0, base.rows, 24))
    return made


def live(program: Any, size: int = 4) -> Live:
    return Live(program, size, program.plan.outputs[0])


def test_the_exact_engine_answers_the_same(program: Any) -> None:
    """One row after the other, and a stream of what is watched."""
    fast, exact = live(program), Walking(program, program.plan.outputs[0])
    for number in range(4):
        for running in (fast, exact):
            running.add(Job(number, {"q": f"{number} "}, 0, decoding=HOW[number]), watched=False)
    exact.add(Job(4, {"q": "x"}, 0), watched=True)
    exact.drop(1)
    exact.add(Job(5, {"q": "b" * 3000}, 0), watched=False)
    want, found = drained(fast, {}), drained(exact, {})
    assert sorted(found) == [0, 2, 3, 4, 5]
    assert isinstance(found[5], MascError)
    for number in (0, 2, 3):
        assert found[number].prompt == want[number].prompt
        for output, said in found[number].said.items():
            other = want[number].said[output]
            assert (said.text, said.ids, said.cut) == (other.text, other.ids, other.cut)


def drained(running: Live | Walking, found: dict[int, Any]) -> dict[int, Any]:
    with torch.no_grad():
        while running.open:
            found |= {number: news for number, news in running.advance() if not isinstance(news, Growth)}
    return found


def test_each_row_is_answered_as_it_is_alone(program: Any) -> None:
    """Whoever is there, whenever it comes and goes, each with a decoding of its own."""
    rows = [{"q": f"{i} " * (1 + i % 5)} for i in range(24)]
    running, found, dropped = live(program), {}, set(range(0, 24, 3))
    for number, row in enumerate(rows):
        running.add(Job(number, row, 0, decoding=HOW[number % 4]), watched=False)
        found |= {one: news for one, news in running.advance() if not isinstance(news, Growth)}
        if number % 3 == 2:
            running.drop(number - 2)
    drained(running, found)
    late = {number for number in found if number in dropped}  # through before it was dropped
    assert set(found) == set(range(24)) - dropped | late
    assert len(late) < len(dropped)
    output = program.plan.outputs[0]
    for number, news in found.items():
        alone = program.say([rows[number]], decoding=HOW[number % 4])[0][output]
        assert news.said[output].text == alone.text, number
        assert news.said[output].scores == pytest.approx(alone.scores, abs=1e-3)
        assert news.prompt > len(rows[number]["q"])


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_dropped_row_frees_its_place(program: Any, temperature: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program.base(program.plan.turns[-1].agent), "stop_ids", frozenset())
    running = live(program, 2)
    for number in range(2):
        running.add(Job(number, {"q": "x"}, 0, decoding=Decoding(temperature, max_tokens=1000)), watched=False)
    while len(running.stages[-1].pool.seats) < 2:
        running.advance()
    running.add(Job(2, {"q": "y"}, 0, decoding=Decoding(max_tokens=2)), watched=False)
    running.advance()
    assert len(running.stages[-1].pool.seats) == 2
    running.drop(0)
    running.drop(1)
    assert set(drained(running, {})) == {2}
    assert not running.stages[-1].pool.seats


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_row_may_be_dropped_at_any_moment(program: Any, temperature: float) -> None:
    """Whoever is left hears of an answer, whatever stage the other one was in."""
    for moment in range(12):
        running = live(program, 2)
        for number in range(2):
            decoding = Decoding(temperature, seed=1, max_tokens=12)
            running.add(Job(number, {"q": "x"}, 0, decoding=decoding), watched=False)
        found: set[int] = set()
        for _ in range(moment):
            found |= {number for number, news in running.advance() if isinstance(news, Answer)}
        running.drop(0)
        assert found | set(drained(running, {})) >= {1}
        assert not running.open


def test_an_answer_is_told_as_it_grows(program: Any) -> None:
    running = live(program)
    running.add(Job(0, {"q": "hello"}, 0, decoding=Decoding(max_tokens=30)), watched=True)
    grown = []
    while running.open:
        grown += running.advance()
    *parts, (_, last) = grown
    assert isinstance(last, Answer)
    whole = last.said[program.plan.outputs[0]]
    lengths = [len(part.ids) for _, part in parts]
    assert lengths == sorted(lengths)
    assert all(part.ids == whole.ids[: len(part.ids)] for _, part in parts)
    assert len(lengths) > 1


def test_a_row_that_cannot_be_answered_is_in_nobody_s_way(program: Any) -> None:
    running = live(program)
    for number, words in enumerate(("a", "b" * 3000, "c")):
        running.add(Job(number, {"q": words}, 0), watched=False)
    found = drained(running, {})
    assert isinstance(found[1], MascError)
    assert found[1].diagnostics[0].code == "E0606"
    assert all(isinstance(found[number], Answer) for number in (0, 2))
