"""`masc compare`: what was done is not done again, and what the numbers of several seeds come to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from comparisons import ROWS, TEAM, WORDS, all_runs, task
from masc.studies.comparison import Result, build_row, compare
from masc.studies.comparison_report import lines_of
from masc.studies.comparison_runs import weights_key


def outcomes(results: list[Result]) -> list[dict[str, Any]]:
    """All of the results but times."""
    found = []
    for result in results:
        known = dict(vars(result))
        known.pop("train_seconds")
        known["report"] = {k: v for k, v in result.report.items() if k != "seconds"}
        found.append(known)
    return found


SOME = ["single", "single-tuned", "majority", "pooled-tuned", "stopped", "team"]


def test_killed_and_run_again_it_goes_on(team: Path) -> None:
    whole = compare(team, team.parent / "whole", task(team), rows=SOME)
    assert [result.row for result in whole][-1] == "team"
    trained = [r for r in whole if r.steps]
    assert {r.row for r in trained} == set(SOME) - {"single"}
    assert whole[1].folder == whole[2].folder  # a majority of the same agents
    assert whole[2].report["repeat"] == whole[2].voters > 1
    assert len({r.tokens for r in trained}) == 1  # the same items, and so the same answers
    assert all(r.steps == 3 for r in trained)
    assert all(len(r.right) == 3 for r in whole)
    assert all(r.report["latent_steps"] == 0 for r in whole if r.row.startswith(("single", "pooled")))
    assert {r.row: r.parameters > 0 for r in whole} == {r.row: r in trained for r in whole}
    stopped, team_row = (next(r for r in whole if r.row == row) for row in ("stopped", "team"))
    assert stopped.parameters < team_row.parameters

    class StopError(Exception):
        pass

    seen: list[int] = []

    def stop(metrics: Mapping[str, Any]) -> None:
        seen.append(metrics["step"])
        if len(seen) == 8:  # in the second step of the third row that is trained
            raise StopError

    out = team.parent / "again"
    with pytest.raises(StopError):
        compare(team, out, task(team), rows=SOME, listen=stop)
    done = {file: file.stat().st_mtime_ns for file in out.glob("runs/*/result-*.json")}
    assert len(done) == 4
    seen.clear()
    again = compare(team, out, task(team), rows=SOME, listen=lambda metrics: seen.append(metrics["step"]))
    assert outcomes(again) == outcomes(whole)
    assert all(file.stat().st_mtime_ns == when for file, when in done.items())
    assert seen[:2] in ([2, 3], [3, 1])  # not from the start
    # Once more: nothing is run. With other rows to score: everything is, but nothing is mixed up.
    seen.clear()
    assert outcomes(compare(team, out, task(team), rows=SOME, listen=lambda m: seen.append(1))) == outcomes(whole)
    assert not seen
    other = compare(team, out, task(team, limit=2), rows=["single"])
    assert len(other[0].right) == 2
    # Weights are those of before.
    again = compare(team, out, task(team, limit=2), rows=["team"], listen=lambda m: seen.append(1))
    assert not seen
    assert again[0].right == team_row.right[:2]
    assert (again[0].steps, again[0].tokens, again[0].folder) == (3, team_row.tokens, team_row.folder)


def test_other_decoding_asks_again_and_trains_nothing(team: Path) -> None:
    seen: list[int] = []
    first = compare(team, team.parent / "x", task(team), rows=["team"], listen=lambda m: seen.append(1))
    assert len(seen) == 3
    seen.clear()
    team.write_text(TEAM.replace("max_tokens = 3", "max_tokens = 1"))
    again = compare(team, team.parent / "x", task(team), rows=["team"], listen=lambda m: seen.append(1))
    assert not seen
    assert again[0].report["tokens_decoded"] < first[0].report["tokens_decoded"]
    # What an agent says to another, and no column supervises, is part of what the other is trained on.
    marks = set()
    for text in (WORDS, WORDS.replace("max_tokens = 2", "max_tokens = 1"), WORDS.replace("= 3", "= 1")):
        team.write_text(text)
        marks.add(weights_key(all_runs(team, ["team"])["team"], task(team)))
    assert len(marks) == 2


def test_samples_for_the_agreement_are_no_longer_than_they_may_be(team: Path) -> None:
    lengths: list[int] = []

    def same(said: str, gold: str, row: object) -> bool:
        return True

    from masc.backends.torch.evaluation import stability

    program = build_row(all_runs(team, ["single"])["single"], task(team))[0]
    run = stability.say_all

    def seen(*args: Any, **options: Any) -> Any:
        for i, said in run(*args, **options):
            lengths.append(len(said["answer"].ids))
            yield i, said

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stability, "say_all", seen)
        stability.agreement(program, ROWS, same, samples=2, max_tokens=1)
    assert max(lengths) == 1


def test_the_seed_orders_the_data_of_all_rows_alike(team: Path) -> None:
    one, two = (compare(team, team.parent / "x", task(team), rows=["single-tuned", "team"], seeds=[s]) for s in (0, 1))
    assert one[0].tokens == one[1].tokens
    assert two[0].tokens == two[1].tokens
    assert {r.folder for r in one} & {r.folder for r in two} == set()


def test_a_mean_over_seeds_and_its_interval(team: Path) -> None:
    def result(row: str, seed: int, right: list[bool]) -> Result:
        report = {"gold_perplexity": 2.0 + seed, "decoded_perplexity": None, "tokens_decoded": 10, "latent_steps": 0}
        return Result(
            row, row, {}, seed, f"{row}-{seed}", {**report, "seconds": 1.0}, 5, None, 1, 1, 1, 1.0, None, right
        )

    few = [True, False, False, False] * 10
    many = [True, True, True, False] * 10
    lines = lines_of([*(result("single-tuned", s, few) for s in (0, 1)), *(result("team", s, many) for s in (0, 1))])
    assert [line.accuracy for line in lines] == [0.25, 0.75]
    assert lines[0].against is None
    assert lines[1].against is not None
    middle, low, high = lines[1].against
    assert middle == 0.5
    assert 0.2 < low < 0.4
    assert 0.6 < high < 0.8
    assert lines[1].detectable == pytest.approx(2.8016 * 0.5064 / 40**0.5, rel=1e-3)  # of 40 items half differ
    assert lines[0].gold_perplexity == 2.5
    assert lines[0].decoded_perplexity is None
    assert lines[0].interval[0] < 0.25 < lines[0].interval[1]
