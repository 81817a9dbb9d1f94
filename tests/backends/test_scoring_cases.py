"""The scorers against a table of answers: what a careful reader takes for the answer is what counts."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from pathlib import Path

import pytest

from masc.backends.scoring import choices
from masc.backends.scoring.claims import Found, rejected
from masc.backends.scoring.mathematics import math
from masc.backends.scoring.reasoning import BLOCKS
from masc.backends.scoring.registry import SCORERS
from masc.compiler.language.scorers import DECLARED

CASES = [
    json.loads(line)
    for line in Path(__file__).with_name("scoring_cases.jsonl").read_text(encoding="utf-8").splitlines()
]
"""scorer, said, gold, right, why."""


@pytest.mark.parametrize("scorer", ["exact", "number", "math", "choice"])
def test_the_table(scorer: str) -> None:
    cases = [case for case in CASES if case["scorer"] == scorer]
    wrong = [
        f"{case['said']!r} for {case['gold']!r} should be {'right' if case['right'] else 'wrong'}: {case['why']}"
        for case in cases
        if (SCORERS[scorer].score(case["said"], case["gold"], {}) == 1) is not case["right"]
    ]
    assert not wrong, "\n".join(wrong)


def test_the_table_is_large_and_says_each_once() -> None:
    count = Counter(case["scorer"] for case in CASES)
    assert count["number"] > 100
    assert count["choice"] > 100
    assert count["math"] > 40
    assert {len(case) for case in CASES} == {5}
    assert max(Counter((c["scorer"], c["said"], c["gold"]) for c in CASES).values()) == 1
    for scorer in count:
        assert {case["right"] for case in CASES if case["scorer"] == scorer} == {True, False}


@pytest.mark.parametrize(("opening", "closing"), BLOCKS)
@pytest.mark.parametrize(
    ("scorer", "thought", "answer"),
    [("exact", "B", "C"), ("number", "7", "8"), ("math", "7", "8"), ("choice", "B", "C")],
)
def test_reasoning_is_cut(opening: str, closing: str, scorer: str, thought: str, answer: str) -> None:
    score = SCORERS[scorer].score
    for said in (f"{opening}{thought}{closing}\n\n{answer}", f"{thought} it is{closing}{answer}"):
        assert score(said, answer, {}) == 1
        assert score(said, thought, {}) == 0
    assert score(f"{opening}It is {answer}. The answer is {answer}", answer, {}) == 0, "nothing was answered"


def test_what_takes_for_ever_is_not_right_and_the_next_one_is_asked() -> None:
    assert not math(r"\boxed{9^{9^{9^{9^{9}}}}}", "5")
    assert math(r"\boxed{x+1}", "1+x")


def test_long_answers_and_hostile_ones_end() -> None:
    parts = (
        "9",
        "1,",
        "(A) or ",
        "A | ",
        "<think>",
        r"\boxed{",
        "- ",
        "The answer is 3. Wait, no. ",
        "<a ",
        "$",
        "answer ",
    )
    for part in parts:
        for name in ("exact", "number", "choice"):
            SCORERS[name].score(part * 5_000, "B" if name == "choice" else "5", {})
    assert SCORERS["number"].score("1e99999999999", "5", {}) == 0
    assert SCORERS["number"].score("9" * 5000, "9" * 5000, {}) == 1
    assert SCORERS["number"].score("9" * 5000, "9" * 4999 + "8", {}) == 0


def test_a_long_list_of_options_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = Counter[int]()

    def counting(text: str, found: Found) -> bool:
        looked[found.start] += 1
        return rejected(text, found)

    monkeypatch.setattr(choices, "rejected", counting)
    assert not choices.choice("A | " * 500, "B")
    assert len(looked) == 500
    assert max(looked.values()) <= 2


def test_mathematics_in_threads() -> None:
    right: list[bool] = []
    threads = [threading.Thread(target=lambda: right.append(math("(x+1)^2", "x^2+2x+1"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert right == [True] * 4


def test_answers_with_one_gist_are_one_answer() -> None:
    for scorer, same, other in (
        ("number", ("so 1,200", "1200.0", "#### 1200"), "1201"),
        ("math", ("$1/2$", "0.5", r"\boxed{\frac{1}{2}}"), "0.6"),
        ("choice", ("(B)", "the answer is B", "b) a dog"), "C"),
        ("exact", ("red", " red.", "<think>x</think>red"), "blue"),
    ):
        gold = "B" if scorer == "choice" else "1"
        gist = SCORERS[scorer].gist
        assert len({gist(said, gold) for said in same}) == 1
        assert gist(other, gold) != gist(same[0], gold)


def test_the_page_says_what_the_table_holds() -> None:
    page = (Path(__file__).parents[2] / "docs" / "scoring.md").read_text(encoding="utf-8")
    for one in DECLARED:
        assert f"| `{one.name}` | {one.help} |" in page
    for mark in BLOCKS:
        assert f"`{mark[0]}`" in page or "channel" in mark[0]
    held = {(case["scorer"], case["said"], case["gold"]): case["right"] for case in CASES}
    shown = 0
    for section in re.split(r"^## `", page, flags=re.MULTILINE)[1:]:
        for said, gold, verdict in re.findall(r"^- `(.*)` for `(.*)`: (right|wrong)$", section, re.MULTILINE):
            assert held[section.split("`")[0], said, gold] is (verdict == "right"), said
            shown += 1
    assert shown > 30
