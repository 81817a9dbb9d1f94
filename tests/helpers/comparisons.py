"""A team whose rows are compared, and the runs that come of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from masc.compiler.pipeline import compile_file
from masc.studies.comparison_runs import Run, Task, runs, task_of

TEAM = """
mas 1
model m = "./tiny"
param steps_of_thought: int = 2
agent guide on m {
  system "Guide." user "{clue}" think steps_of_thought adapt lora(rank = 3, alpha = 6) answer (max_tokens = 5)
}
agent writer on m { user "{guide}" think 1 adapt lora(rank = 5, targets = attention) answer (max_tokens = 5) }
agent judge on m { system "Judge." user "{q}?" think 1 adapt lora(rank = 2) answer (max_tokens = 3) }
graph team(q, clue) -> answer { guide -> writer : hidden  [guide, writer] -> judge : kv(carry = own)  judge -> answer }
train { data "train.jsonl" eval_data "test.jsonl" answer <- answer batch 2 steps 3 save_every 1 seed 7 }
"""
FILES = ("train.jsonl", "test.jsonl")
ROWS = [{"q": "who" * n, "clue": "c" * n, "answer": "ab"[:k]} for n, k in ((1, 1), (2, 2), (3, 1), (4, 2), (5, 1))]


def task(team: Path, **options: Any) -> Task:
    options = {"samples": 2, "sampled": 2, "dtype": "float32", "device": "cpu"} | options
    return task_of(compile_file(team), None, None, "exact", **options)


def all_runs(team: Path, rows: list[str] | None = None) -> dict[str, Run]:
    return {run.row: run for run in runs(team, task(team), rows, [0], {}, {})}


WORDS = """
mas 1
model m = "./tiny"
agent guide on m { user "{clue}" answer (max_tokens = 2) }
agent judge on m { user "{guide} {q}?" answer (max_tokens = 3) }
graph team(q, clue) -> answer { guide -> judge : text  judge -> answer }
train { data "train.jsonl" eval_data "test.jsonl" answer <- answer steps 1 }
"""


CHAIN = """
mas 1
model m = "./tiny"
agent guide on m { user "{clue}" think 1 adapt lora(rank = 2) }
agent judge on m { user "{q}?" adapt lora(rank = 2) answer (max_tokens = 3, temperature = 0.5, stop = "z") }
graph team(q, clue) -> answer { guide -> judge : kv }
train { data "train.jsonl" eval_data "test.jsonl" answer <- answer batch 2 steps 1 }
"""
