"""What `masc init` writes: small teams of a few shapes, and rows to train and test them on."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass

from masc.dsl.formatter import format_file, format_string
from masc.dsl.parser import parse
from masc.dsl.source import Source

Row = dict[str, str]


@dataclass(frozen=True)
class Shape:
    """The agents, all but the `solver` that answers, and the graph's statements."""

    about: str
    agents: str
    body: str
    solver_thinks: bool = False


def _thinker(name: str, system: str, words: str, fields: str = "") -> str:
    return f'agent {name}{fields} on base {{ system "{system}" user "{{question}}\\n{words}" think latents }}\n'


SHAPES: dict[str, Shape] = {
    "chain": Shape(
        "one after another: a planner, a critic and a solver that sees what both thought",
        _thinker("planner", "You plan.", "Write a short plan. Do not answer yet.")
        + _thinker("critic", "You criticise.", "What is wrong with the plan?"),
        "planner -> critic -> solver : kv",
    ),
    "panel": Shape(
        "side by side: experts made of one template, and a judge that sees what each of them thought",
        _thinker("expert", "You know about {field}.", "Think about it as the expert that you are.", "(field: text)"),
        'numbers = expert("the numbers that are given") steps = expert("the steps to take")\n'
        'traps = expert("what is easily overlooked")\n'
        "[numbers, steps, traps] -> solver : kv(carry = own)",
    ),
    "debate": Shape(
        "in turns: a solver and a critic, two rounds, and the solver's last word",
        _thinker("critic", "You criticise.", "What is wrong with the solution?"),
        "repeat 2 { solver -> critic : kv critic -> solver : kv(carry = latents) }",
        solver_thinks=True,
    ),
    "pair": Shape(
        "the smallest team: a planner that thinks and a solver that sees it",
        _thinker("planner", "You plan.", "Write a short plan. Do not answer yet."),
        "planner -> solver : kv",
    ),
}


def _sums(rng: random.Random) -> Row:
    """Numbers of one to three digits, two steps."""
    name, thing = rng.choice(("Ada", "Ben", "Cleo", "Dan")), rng.choice(("stamps", "pens", "shells", "cards"))
    have, more, gone = rng.randint(10, 60), rng.randint(2, 40), rng.randint(1, 10)
    return {
        "question": f"{name} has {have} {thing}, finds {more} and gives {gone} away. How many are left?",
        "answer": str(have + more - gone),
    }


def _letters(rng: random.Random) -> Row:
    word = "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(3, 5)))
    return {"question": f"Write `{word}` backwards.", "answer": word[::-1]}


@dataclass(frozen=True)
class Task:
    """`ask`: what the answering agent is told; `scorer`: how `masc eval` compares."""

    about: str
    ask: str
    tokens: int
    scorer: str
    row: Callable[[random.Random], Row]


TASKS: dict[str, Task] = {
    "sums": Task("small word problems, made up", "Answer with the number alone.", 8, "number", _sums),
    "letters": Task("words to write backwards, made up", "Answer with the word alone.", 12, "exact", _letters),
    "own": Task("yours: rows to put your own in place of", "Answer in a few words.", 32, "exact", _sums),
}


def program(name: str, shape: str, model: str, task: str) -> str:
    """The `.mas` text of a team, in the canonical style."""
    form, work = SHAPES[shape], TASKS[task]
    think = "think latents " if form.solver_thinks else ""
    text = (
        f"# {form.about[0].upper()}{form.about[1:]}.\nmas 1\n"
        f"model base = {format_string(model)}  # a short name (masc models list), a Hugging Face id, or a folder\n"
        f"param latents: int = 4  # steps of thought without words; --set latents=8\n"
        f"{form.agents}"
        f'agent solver on base {{ system "You solve." user "{{question}}\\n{work.ask}" {think}'
        f"answer (max_tokens = {work.tokens}) }}\n"
        f"graph {name}(question) -> answer {{ {form.body} }}\n"
        'train { data "train.jsonl" eval_data "test.jsonl"\n'
        "answer <- answer  # the column that supervises the output\n"
        "batch 4 steps 100 rate 2e-4 warmup 0.05 save_every 50 }\n"
    )
    file, diagnostics = parse(Source(f"{name}.mas", text))
    assert file is not None
    assert not diagnostics
    return format_file(file)


def rows(task: str, train: int = 200, test: int = 50, seed: int = 0) -> tuple[str, str]:
    """Different rows to train on and others to test on, as JSON lines."""
    rng = random.Random(seed)
    found: dict[str, Row] = {}
    while len(found) < train + test:
        row = TASKS[task].row(rng)
        found.setdefault(row["question"], row)
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in found.values()]
    return "".join(lines[:train]), "".join(lines[train:])


def readme(name: str, shape: str, task: str) -> str:
    """What to do with the folder."""
    form, work = SHAPES[shape], TASKS[task]
    question = json.loads(rows(task, 1, 0)[0])["question"].replace('"', "'").replace("`", "'")
    return f"""\
# {name}

The team: {form.about}. The task: {work.about}.

    masc check                      # is everything right?
    masc draw                       # what it looks like
    masc train                      # 100 steps on train.jsonl; --set steps=500 for more
    masc eval --data test.jsonl --scorer {work.scorer}
    masc run --input question="{question}"

`{name}.mas` is the team; `masc fmt` keeps it tidy, `masc new agent NAME` adds to it. `train.jsonl` and `test.jsonl`
hold one row a line: `question`, and `answer` to be learnt. Put your own in their place.
"""
