"""Public data sets as tasks: records become rows; loading, on local folders in the layout of the hub."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from masc.backends.scoring.code import passes
from masc.backends.scoring.registry import SCORERS
from masc.backends.torch.data.check import check_columns, read_rows
from masc.backends.torch.evaluation.evaluate import evaluate
from masc.backends.torch.evaluation.tasks import TASKS, ask, load_task, published, task_problem
from masc.dsl.diagnostics import MascError
from support import WALLS, chain, make_program

OPTIONS = {"label": ["A", "B", "C", "D"], "text": ["wool", "iron", "glass", "milk"]}
RECORDS: dict[str, dict[str, Any]] = {
    "gsm8k": {"question": "How many?", "answer": "It is <<600*2=1200>>1200 in all.\n#### 1,200"},
    "aime24": {"id": 1, "problem": "Find $x$.", "solution": "By luck.", "answer": "033", "url": "", "year": "2024"},
    "aime25": {"problem": "Find $y$.", "answer": "70", "id": "0"},
    "gpqa-diamond": {
        "Question": "Which one?",
        "Correct Answer": "the right one\n",
        **{f"Incorrect Answer {i}": f"wrong {i}" for i in (1, 2, 3)},
    },
    "humaneval": {
        "task_id": "Own/0",
        "prompt": 'import math\n\n\ndef root(x):\n    """The root of x, rounded down."""\n',
        "canonical_solution": "    return math.isqrt(x)\n",
        "test": "def check(candidate):\n    assert candidate(10) == 3\n",
        "entry_point": "root",
    },
    "mbpp": {
        "task_id": 1,
        "text": "Write a function that doubles a number.",
        "code": "def double(x):\r\n  return 2 * x",
        "test_list": ["assert double(3) == 6", "assert double(n) == 14"],
        "test_setup_code": "n = 7",
        "challenge_test_list": [],
    },
    "openbookqa": {"id": "1", "question_stem": "A magnet attracts", "choices": OPTIONS, "answerKey": "B"},
    "arc-easy": {"id": "2", "question": "What is drunk?", "choices": OPTIONS, "answerKey": "D"},
    "arc-challenge": {
        "id": "3",
        "question": "What keeps warm?",
        "choices": {"label": ["1", "2", "3"], "text": ["ice", "wool", "wind"]},
        "answerKey": "2",
    },
    "medqa": {
        "question": "What helps?",
        "options": {"A": "tea", "B": "rest", "C": "noise", "D": "smoke"},
        "answer": "rest",
        "answer_idx": "B",
        "meta_info": "step1",
    },
}
WANTED = {
    "gsm8k": ("How many?", "1200"),
    "aime24": ("Find $x$.", "033"),
    "aime25": ("Find $y$.", "70"),
    "openbookqa": (
        "Please choose the correct answer to the question: A magnet attracts\n\n"
        "Answer1: wool Answer2: iron Answer3: glass Answer4: milk\n\n"
        "Answer format: answer1/answer2/answer3/answer4",
        "answer2",
    ),
    "arc-challenge": (
        "Please choose the correct answer to the question: What keeps warm?\n\n"
        "Answer1: ice Answer2: wool Answer3: wind\n\nAnswer format: answer1/answer2/answer3",
        "answer2",
    ),
}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data sets as local folders, each with the configurations and splits of its card; no cache is left behind."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    root = tmp_path / "hub"
    cards: dict[str, list[str]] = {}
    for name, task in TASKS.items():
        folder = root / task.hub
        folder.mkdir(parents=True, exist_ok=True)
        for split in sorted({task.split, "train"}):
            file = f"{task.config or 'data'}-{split}.jsonl"
            (folder / file).write_text(json.dumps(RECORDS[name]) + "\n")
            cards.setdefault(task.hub, []).append(f"- {task.config or 'default'} {split} {file}")
    for hub_id, lines in cards.items():
        by_config: dict[str, list[str]] = {}
        for config, split, file in (line[2:].split() for line in lines):
            by_config.setdefault(config, []).append(f"  - split: {split}\n    path: {file}")
        text = "\n".join(f"- config_name: {name}\n  data_files:\n" + "\n".join(by_config[name]) for name in by_config)
        (root / hub_id / "README.md").write_text(f"---\nconfigs:\n{text}\n---\n")
    return root


@pytest.mark.parametrize("name", TASKS)
def test_a_task_loads(name: str, hub: Path) -> None:
    (row,) = load_task(name, root=hub)
    check_columns([row], ("question", "answer"), name)
    assert TASKS[name].scorer in set(SCORERS)
    if name in WANTED:
        assert (row["question"], row["answer"]) == WANTED[name]
    if TASKS[name].scorer == "code":
        assert passes(row["answer"], row, WALLS), "the model solution passes its own tests"
        assert not passes(row["answer"].replace("return", "return 1 +"), row, WALLS)
    else:
        assert SCORERS[TASKS[name].scorer].score(f"The answer is {row['answer']}.", row["answer"], row) == 1


def test_another_split(hub: Path) -> None:
    file = hub / "openai/gsm8k/main-train.jsonl"
    file.write_text(file.read_text() * 3)
    rows = load_task("gsm8k", split="train", root=hub)
    assert [row["solution"] for row in rows] == ["It is 1200 in all.\nThe answer is 1200."] * 3
    with pytest.raises(MascError, match=r"`openai/gsm8k`: it has no split `nosuch`") as caught:
        load_task("gsm8k", split="nosuch", root=hub)
    assert caught.value.diagnostics[0].code == "E0626"


def test_options_are_shuffled_by_the_question_alone() -> None:
    record = RECORDS["gpqa-diamond"]
    rows = [TASKS["gpqa-diamond"].row({**record, "Question": f"Which of {i}?"}) for i in range(400)]
    assert rows == [TASKS["gpqa-diamond"].row({**record, "Question": f"Which of {i}?"}) for i in range(400)]
    right = [row["answer"] for row in rows]
    assert all(70 < right.count(f"answer{i}") < 130 for i in (1, 2, 3, 4))
    for row in rows:
        number = row["answer"].removeprefix("answer")
        assert f"Answer{number}: the right one" in row["question"]
        assert all(f"wrong {i}" in row["question"] for i in (1, 2, 3))


def test_the_form_of_a_choice() -> None:
    row = ask(" Which? ", ["yes", " no"], 1)
    assert row["question"].endswith("Which?\n\nAnswer1: yes Answer2: no\n\nAnswer format: answer1/answer2")
    assert row["answer"] == "answer2"


def test_files_as_published_or_as_rows(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    for name, told in (("humaneval", "Complete this Python function"), ("mbpp", "assert double(3) == 6")):
        file.write_text(json.dumps(RECORDS[name]) + "\n")
        (row,) = read_rows(file, ("question",), published(name))
        assert told in row["question"]
        assert passes(row["answer"], row, WALLS)
    plain = {"question": "q", "answer": "a", "prompt": "p", "test": "t"}
    file.write_text(json.dumps(plain) + "\n")
    for name in TASKS:
        assert read_rows(file, ("question", "answer"), published(name)) == [plain]
    file.write_text('{"prompt": 3, "test": ""}\n')
    for name in ("humaneval", "mbpp", "gsm8k"):
        with pytest.raises(MascError, match="line 1 has no column `question`"):
            read_rows(file, ("question",), published(name))


def test_what_is_wrong_is_told(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def code_of(name: str, told: str) -> str:
        with pytest.raises(MascError, match=told) as caught:
            load_task(name, root=hub)
        (diagnostic,) = caught.value.diagnostics
        assert diagnostic.hint
        return diagnostic.code

    assert task_problem("gsmk8") == "unknown task `gsmk8`: did you mean `gsm8k`?"
    assert task_problem("gsm8k") is None
    with pytest.raises(MascError, match="unknown task `x`: known are gsm8k, "):
        load_task("x")
    for split in ("test", "train"):
        (hub / f"openai/gsm8k/main-{split}.jsonl").write_text('{"question": "q", "result": "3"}\n')
    assert code_of("gsm8k", "record 1 of the data set `openai/gsm8k` .* has no 'answer'") == "E0624"
    (hub / "allenai/ai2_arc/ARC-Easy-test.jsonl").write_text(json.dumps({**RECORDS["arc-easy"], "answerKey": "X"}))
    assert code_of("arc-easy", "record 1") == "E0624"

    (hub / "math-ai/aime25/data-test.jsonl").write_text("{")
    assert code_of("aime25", "cannot load the data set `math-ai/aime25`: JSON") == "E0624"

    import datasets

    def refuse(error: Exception) -> None:
        def load(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(datasets, "load_dataset", load)

    missing = datasets.exceptions.DatasetNotFoundError
    refuse(missing("Dataset 'Idavidrein/gpqa' is a gated dataset on the Hub. You must be authenticated to access it."))
    assert code_of("gpqa-diamond", "only for those whom its owners let in") == "E0625"
    refuse(missing("Dataset 'Idavidrein/gpqa' doesn't exist on the Hub or cannot be accessed."))
    assert code_of("gpqa-diamond", "only for those") == "E0625"
    assert code_of("gsm8k", "cannot load the data set `openai/gsm8k`: Dataset") == "E0624"
    refuse(ConnectionError("Couldn't reach 'Idavidrein/gpqa' on the Hub (LocalEntryNotFoundError)\nmore"))
    assert code_of("gpqa-diamond", "Couldn't reach .*Error\\)$") == "E0624"
    refuse(OSError())
    assert code_of("medqa", "OSError$") == "E0624"
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert code_of("gsm8k", "`datasets`, which is not installed") == "E0623"


def test_without_a_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The real path to the hub, which is told to be offline."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    with pytest.raises(MascError, match="cannot load the data set `math-ai/aime25`") as caught:
        load_task("aime25")
    (diagnostic,) = caught.value.diagnostics
    assert (diagnostic.code, diagnostic.hint) == (
        "E0624",
        "without a network, rows from a file do as well: --data FILE",
    )


def test_columns_that_do_not_fit() -> None:
    rows = [{"question": "q", "answer": "a"}, {"question": ["q"], "answer": "a"}]
    with pytest.raises(MascError, match="row 1 of the task `gsm8k` has no column `quesion`") as caught:
        check_columns(rows, ("quesion",), "the task `gsm8k`")
    assert caught.value.diagnostics[0].hint == "did you mean `question`?"
    with pytest.raises(MascError, match="column `question` of row 2 of it is a list"):
        check_columns(rows, ("question",), "it")
    with pytest.raises(MascError, match="it holds no rows"):
        check_columns([], ("question",), "it")


def test_a_task_is_evaluated(tiny: Path, hub: Path) -> None:
    program = make_program(chain(("b", 0, "norm")), tiny)
    for name in ("gsm8k", "mbpp"):
        rows = [{**row, "q": row["question"]} for row in load_task(name, root=hub)]
        report, items = evaluate(program, rows, TASKS[name].scorer, allow_code_execution=True, sandbox=WALLS)
        assert report.items == 1
        assert report.gold_perplexity > 1
        assert items[0].gold == rows[0]["answer"]
