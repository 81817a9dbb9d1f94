"""`masc eval --task`: the task chooses scorer and rows, from the hub or from a file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from courier import GRAPH, Command, Result
from support import WALLS

ASKING = GRAPH.replace("{code}", "{question}").replace("courier(code)", "courier(question)").replace("word", "answer")
PUBLISHED = {
    "task_id": "Own/0",
    "prompt": 'def two():\n    """Two."""\n',
    "canonical_solution": "    return 2\n",
    "test": "def check(candidate):\n    assert candidate() == 2\n",
    "entry_point": "two",
}


@pytest.fixture
def team(folder: Path) -> Path:
    """The folder, with a graph that has the columns of tasks and rows of which the last is broken."""
    (folder / "courier.mas").write_text(ASKING)
    rows = [{"question": f"{i}?", "answer": f"answer{i}"} for i in (1, 2, 3)]
    (folder / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "code.jsonl").write_text(json.dumps(PUBLISHED) + "\n")
    return folder


def numbers(done: Result, team: Path) -> dict[str, Any]:
    assert done.code == 0, done.err
    found: dict[str, Any] = json.loads((team / "eval.json").read_text())
    return found


def test_the_task_chooses_the_scorer_of_a_file(masc: Command, team: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from masc.backends.scoring.registry import SCORERS

    used: list[str] = []
    for name in list(SCORERS):

        def score(said: str, gold: str, row: Any, name: str = name) -> bool:
            used.append(name)
            return True

        monkeypatch.setitem(SCORERS, name, replace(SCORERS[name], function=score))
    asked = ("eval", "--data", "own.jsonl", "--out", "eval.json", "--limit", 2)
    for more, wanted in (
        ((), "exact"),
        (("--task", "gsm8k"), "number"),
        (("--task", "gpqa-diamond"), "choice"),
        (("--task", "humaneval", "--scorer", "exact"), "exact"),
    ):
        used.clear()
        assert numbers(masc(*asked, *more), team)["items"] == 2
        assert used == [wanted] * 2


def test_code_as_published(masc: Command, team: Path) -> None:
    asked = ("eval", "--data", "code.jsonl", "--task", "humaneval", "--out", "eval.json")
    refused = masc(*asked)
    assert refused.code == 1
    assert "E0611" in refused.err
    assert "--allow-code-execution" in refused.err
    found = numbers(masc(*asked, "--allow-code-execution", "--sandbox", WALLS), team)
    assert (found["items"], found["correct"]) == (1, 0)
    assert found["gold_perplexity"] > 1


def test_from_the_hub(masc: Command, team: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked: list[tuple[object, ...]] = []

    def load(path: str, config: str | None, *, split: str) -> list[dict[str, str]]:
        asked.append((path, config, split))
        return [{"question": f"{i}?", "answer": f"So.\n#### {i}"} for i in range(5)]

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert numbers(masc("eval", "--task", "gsm8k", "--limit", 3, "--out", "eval.json"), team)["items"] == 3
    assert asked == [("openai/gsm8k", "main", "test")]
    (team / "courier.mas").write_text(ASKING.replace("answer <- answer", "answer <- soluton"))
    masc("compile")
    wrong = masc("eval", "--task", "gsm8k")
    assert wrong.code == 1
    assert "row 1 of the task `gsm8k` has no column `soluton`" in wrong.err
    assert "did you mean `solution`?" in wrong.err
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: [])
    assert "E0605" in masc("eval", "--task", "gsm8k").err


def test_wrong_usage(masc: Command, team: Path) -> None:
    unknown = masc("eval", "--task", "gsmk8")
    assert unknown.code == 1
    assert "gsm8k" in unknown.err
    assert masc("eval", "--task", "gsm8k", "--scorer", "numbr").code == 2
    missing = masc("eval", "--task", "gsm8k", "--data", "code.jsonl")
    assert missing.code == 1
    assert "E0604" in missing.err
    assert "`question`" in missing.err
