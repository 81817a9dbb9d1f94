"""Public data sets as tasks: where each lies on the Hugging Face hub, how its records become rows, how it is scored.

Rows have `question` and `answer`; those of code also what the code scorer reads. Multiple-choice questions are asked
in one form whatever the data set: "Please choose the correct answer to the question: ...", answered by "answer3".
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from masc.backends.torch.data.sources import FILE, refusal
from masc.dsl.diagnostics import did_you_mean, fail

Record = Mapping[str, Any]
Row = dict[str, Any]


@dataclass(frozen=True)
class Task:
    """One public data set."""

    name: str
    hub: str
    """Its id on the hub."""
    config: str | None
    split: str
    """What is evaluated on."""
    scorer: str
    row: Callable[[Record], Row]
    """What a record of the hub becomes."""
    published: bool = False
    """Whether `row` takes lines of a file as well: those of the published form, and rows as they are."""
    gated: bool = False
    """Its owners must be asked first."""


# -- records to rows --------------------------------------------------------------------------------------------------


def _grade_school(record: Record) -> Row:
    """`... so it is <<3*4=12>>12.\\n#### 12`: the working with a calculator's marks, then the result. `solution` has
    both, without the marks, so that a graph may be trained on either column and scored on its last number."""
    working, _, result = (part.strip() for part in str(record["answer"]).rpartition("####"))
    answer = result.replace(",", "")
    solution = f"{re.sub(r'<<.*?>>', '', working)}\nThe answer is {answer}."
    return {"question": record["question"], "solution": solution, "answer": answer}


def _olympiad(record: Record) -> Row:
    return {"question": record["problem"], "answer": str(record["answer"])}


def ask(question: str, options: Sequence[str], right: int) -> Row:
    """A multiple-choice question as a row; `right` counts from 0."""
    named = " ".join(f"Answer{i}: {option.strip()}" for i, option in enumerate(options, start=1))
    form = "/".join(f"answer{i}" for i in range(1, len(options) + 1))
    text = f"Please choose the correct answer to the question: {question.strip()}\n\n{named}\n\nAnswer format: {form}"
    return {"question": text, "answer": f"answer{right + 1}"}


def _google_proof(record: Record) -> Row:
    """The right answer stands in a column of its own. The order of the options follows from the question alone, so
    that it is the same on every machine and whatever other rows there are."""
    question = str(record["Question"])
    options = [str(record[name]) for name in ("Correct Answer", *(f"Incorrect Answer {i}" for i in (1, 2, 3)))]
    order = sorted(range(4), key=lambda i: hashlib.sha256(f"{i} {question}".encode()).digest())
    return ask(question, [options[i] for i in order], order.index(0))


def _labelled(column: str) -> Callable[[Record], Row]:
    """`choices` = {"text": [...], "label": [...]}, `answerKey` is one of the labels (A, B, ... or 1, 2, ...)."""

    def row(record: Record) -> Row:
        choices = record["choices"]
        return ask(str(record[column]), list(choices["text"]), list(choices["label"]).index(record["answerKey"]))

    return row


def _medical(record: Record) -> Row:
    """`options` = {"A": ..., "B": ...}, `answer_idx` is one of its keys."""
    letters = sorted(record["options"])
    options = [str(record["options"][letter]) for letter in letters]
    return ask(str(record["question"]), options, letters.index(record["answer_idx"]))


def _completion(record: Record) -> Row:
    """HumanEval as published: the beginning of a function, to be completed. Rows may have been completed already."""
    row = dict(record)
    prompt, solution = row.get("prompt"), row.get("canonical_solution")
    if not isinstance(prompt, str):
        return row
    row.setdefault("question", f"Complete this Python function. Give the whole function.\n\n{prompt.rstrip()}")
    if isinstance(solution, str):
        row.setdefault("answer", f"{prompt}{solution}".strip())
    return row


def _basic(record: Record) -> Row:
    """MBPP as published: a sentence (`text`, in its sanitized form `prompt`), and statements that shall hold."""
    row = dict(record)
    text, tests, code = row.get("text", row.get("prompt")), row.get("test_list"), row.get("code")
    if not isinstance(text, str) or not isinstance(tests, list):
        return row
    listed = "\n".join(str(test).strip() for test in tests)  # they tell the name that the function must have
    row.setdefault("question", f"{text.strip()}\n\nThe Python function must pass these tests:\n\n{listed}")
    if isinstance(code, str):
        row.setdefault("answer", code.replace("\r\n", "\n").strip())
    return row


TASKS = {
    task.name: task
    for task in (
        Task("gsm8k", "openai/gsm8k", "main", "test", "number", _grade_school),
        Task("aime24", "HuggingFaceH4/aime_2024", None, "train", "number", _olympiad),
        Task("aime25", "math-ai/aime25", None, "test", "number", _olympiad),
        Task("gpqa-diamond", "Idavidrein/gpqa", "gpqa_diamond", "train", "choice", _google_proof, gated=True),
        Task("humaneval", "openai/openai_humaneval", "openai_humaneval", "test", "code", _completion, published=True),
        Task("mbpp", "google-research-datasets/mbpp", "full", "test", "code", _basic, published=True),
        Task("openbookqa", "allenai/openbookqa", "main", "test", "choice", _labelled("question_stem")),
        Task("arc-easy", "allenai/ai2_arc", "ARC-Easy", "test", "choice", _labelled("question")),
        Task("arc-challenge", "allenai/ai2_arc", "ARC-Challenge", "test", "choice", _labelled("question")),
        Task("medqa", "GBaker/MedQA-USMLE-4-options", None, "test", "choice", _medical),
    )
}


# -- loading ----------------------------------------------------------------------------------------------------------


def task_problem(name: str) -> str | None:
    """A complaint about the name of a task, or None."""
    hint = did_you_mean(name, list(TASKS)) or f"known are {', '.join(TASKS)}"
    return None if name in TASKS else f"unknown task `{name}`: {hint}"


def load_task(name: str, split: str | None = None, root: Path | None = None) -> list[Row]:
    """All rows of a task, from the hub or the cache of `datasets`.

    split: another than the one that is evaluated on (`train`, where the data set has one). root: a folder that holds
    the data set as a local folder under its hub id, instead of the hub. Errors: E0611 no such task; E0623 `datasets`
    is not installed; E0624 the data set cannot be loaded or is not what it was; E0625 it is gated.
    """
    if (problem := task_problem(name)) is not None:
        raise fail("E0611", problem)
    task = TASKS[name]
    return _rows(task, _records(task, split or task.split, task.hub if root is None else str(root / task.hub)))


def published(name: str) -> Callable[[Row], Row] | None:
    """What makes rows of a file for a task of what they are where the data set is published; None: they have `question`
    and `answer`."""
    return TASKS[name].row if TASKS[name].published else None


def _rows(task: Task, records: Iterable[Record]) -> list[Row]:
    rows = []
    for number, record in enumerate(records, start=1):
        try:
            rows.append(task.row(record))
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            what = f"has no {error}" if isinstance(error, KeyError) else str(error)
            told = f"record {number} of the data set `{task.hub}` is not of the form that was expected: {what}"
            raise fail("E0624", told, hint=FILE) from None
    return rows


def _records(task: Task, split: str, path: str) -> Iterable[Record]:
    try:
        from datasets import load_dataset
    except ImportError:
        raise fail(
            "E0623", "tasks need the package `datasets`, which is not installed", hint=f"pip install datasets; {FILE}"
        ) from None
    try:
        records: Iterable[Record] = load_dataset(path, task.config, split=split)
    except Exception as error:  # of many kinds: its own, the hub's, the system's, pyarrow's
        raise refusal(task.hub, error, task.gated) from None
    return records
