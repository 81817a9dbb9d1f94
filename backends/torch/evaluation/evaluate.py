"""Running and scoring many rows: batches sorted by length, results in the order of the rows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from masc.backends.scoring.code_text import has_tests
from masc.backends.scoring.registry import Function, Scorer, declared, scorer_of
from masc.backends.torch.data.check import answer_columns
from masc.backends.torch.data.rows import rows_of
from masc.backends.torch.data.values import Row
from masc.backends.torch.engine.measuring import batches
from masc.backends.torch.engine.outputs import Said
from masc.backends.torch.engine.probe import Probe
from masc.backends.torch.evaluation.answering import Answering, Here, Loss, answering_of, losses_of
from masc.backends.torch.evaluation.repeats import interval, majority, pass_at, sizes
from masc.backends.torch.evaluation.report import Report
from masc.backends.torch.model.prompts import value
from masc.backends.torch.program import Program
from masc.compiler.analysis.decoding import AS_WRITTEN, Decoding, Engine, decodings_json, samples_anything
from masc.compiler.ir.plan import Plan
from masc.compiler.language.bounds import Bounds
from masc.dsl.diagnostics import did_you_mean, fail

_COUNT = Bounds(1, 1 << 62, whole=True)


def say_all(
    program: Program,
    rows: Sequence[Row],
    size: int,
    skip: frozenset[int] = frozenset(),
    probe: Probe | None = None,
    decoding: Decoding = AS_WRITTEN,
    engine: Engine = "fast",
) -> Iterator[tuple[int, dict[str, Said]]]:
    """Decode every row not in `skip`, `size` of them at once; yields (row number, what was said by output) as they come
    through: longest first, batch by batch where the exact engine runs them."""
    whole = batches(program, rows, [i for i in range(len(rows)) if i not in skip], size)
    if engine == "fast" and probe is None:
        drawn = [(i, 0) for batch in whole for i in batch]
        yield from ((i, said) for i, _, said in Here(program).said(rows, drawn, size, decoding, engine))
        return
    for batch in whole:
        said_by_row = program.say([rows[i] for i in batch], batch, probe, decoding, cuts=True, engine=engine)
        yield from zip(batch, said_by_row, strict=True)


@dataclass(frozen=True)
class Item:
    """One answer. index: its row's number in the data, from 0; said: all of it, with what is cut before scoring; gold:
    empty where code is scored without it; score: 0 to 1; correct: whether it is 1; sample: which of the row's answers
    it is, from 0; cut_off: whether it was, by `max_tokens` or at the model's last position."""

    index: int
    said: str
    gold: str
    correct: bool
    score: float
    sample: int = 0
    cut_off: bool = False


def evaluate(
    program: Program | Answering,
    rows: Sequence[Row],
    scorer: str | Function = "exact",
    *,
    batch: int = 16,
    output: str | None = None,
    repeat: int = 1,
    decoding: Decoding = AS_WRITTEN,
    allow_code_execution: bool = False,
    sandbox: str = "auto",
    engine: Engine = "fast",
    tick: Callable[[int], None] | None = None,
) -> tuple[Report, list[Item]]:
    """Decode and score rows.

    program: or programs on a cluster. scorer: the name of one, or a function of (said, gold, row) that gives a bool or
    a share from 0 to 1. output: which output is scored (default: the first). repeat: answers to each row, sampled:
    which one it is decides what is drawn, not who shares its batch. decoding: of the outputs, where it is not the
    graph's. allow_code_execution: leave for the scorer `code` to run what the model wrote; sandbox: behind which walls:
    auto, bwrap, docker, podman or none. engine: `fast`, which keeps `batch` rows on their way at any time, or `exact`,
    as training computes, batch by batch. tick: called with the number of answers done since the last call. Errors:
    E0605 no rows; E0611 an unknown scorer or output, or code without leave; E0660 no walls to run it behind; E0661 a
    function that cannot score; E0670 several answers where nothing is sampled; those of rows, which name them by their
    number in `rows`; E0701 logits that are not numbers. ValueError and TypeError for arguments that are none.
    """
    for name, number in (("batch", batch), ("repeat", repeat)):
        at_least_one(name, number)
    rows = rows_of(rows, "rows")
    if not rows:
        raise fail("E0605", "there are no rows to evaluate")
    how = scorer_of(scorer, allow_code_execution=allow_code_execution, sandbox=sandbox)
    answering = answering_of(program)
    plan = answering.plan
    check_repeat(plan, repeat, decoding)
    output = output or plan.outputs[0]
    answers = answer_columns(plan)
    if output not in answers:
        raise fail("E0611", f"the graph has no output `{output}`", hint=did_you_mean(output, list(answers)))
    column = answers[output][1]
    for i, row in enumerate(rows):
        if how.runs_code and not has_tests(row):
            hint = "the columns of HumanEval (`test`) and MBPP (`test_list`) work as they are"
            raise fail("E0604", f"row {i + 1} has no column `test`, which the code scorer runs", hint=hint)
    gold = [value(row, column, i) if not how.runs_code or column in row else "" for i, row in enumerate(rows)]
    if isinstance(program, Program):
        program.eval()
    # First, since it is quick and says at once which rows are too long.
    needed = {answers[name][1] for name in plan.outputs}
    all_gold = all(label in row for row in rows for label in needed)
    losses = answering.losses(rows, batch, [output], engine) if all_gold else []
    gold_perplexity = _perplexity(sum(loss for loss, _ in losses), sum(count for _, count in losses))
    began = time.perf_counter()
    items: dict[tuple[int, int], Item] = {}
    logprob, scored, tokens = 0.0, 0, 0
    drawn = [(i, sample) for i in answering.order(rows, range(len(rows))) for sample in range(repeat)]
    for i, sample, said in answering.said(rows, drawn, batch, decoding, engine):
        one = said[output]
        share = how.score(one.text, gold[i], rows[i])
        items[i, sample] = Item(i, one.text, gold[i], share == 1.0, share, sample, one.cut)
        logprob, scored = logprob + one.logprob, scored + one.scored
        tokens += sum(len(s.ids) for s in said.values())
        if tick is not None:
            tick(1)
    seconds = time.perf_counter() - began
    by_row = [[items[i, sample] for sample in range(repeat)] for i in range(len(rows))]
    rights = [sum(item.correct for item in found) for found in by_row]
    points = [sum(item.score for item in found) / repeat for found in by_row]
    low, high = interval(points, repeat)
    thinking = sum(turn.think.steps for turn in plan.turns if turn.think is not None)
    report = Report(
        items=len(rows),
        correct=sum(rights),
        accuracy=_mean(points),
        low=low,
        high=high,
        gold_perplexity=gold_perplexity,
        decoded_perplexity=_perplexity(-logprob, scored),
        tokens_decoded=tokens,
        cut_off=sum(item.cut_off for item in items.values()),
        latent_steps=thinking * len(rows) * repeat,
        seconds=round(seconds, 3),
        scorer=how.name,
        output=output,
        repeat=repeat,
        pass_at={k: _mean([pass_at(n, repeat, k) for n in rights]) for k in sizes(repeat)} if repeat > 1 else {},
        majority=_mean([_majority(how, found) for found in by_row]) if repeat > 1 and not how.runs_code else None,
        decoding=decodings_json(plan, decoding),
        dtype=answering.numbers.held,
        device=answering.numbers.device,
        engine=engine,
    )
    return report, [item for found in by_row for item in found]


def at_least_one(name: str, number: int) -> None:
    """ValueError where an argument is not a whole number from 1 on."""
    if wrong := _COUNT.complaint(name, number):
        raise ValueError(wrong)


def check_repeat(plan: Plan, repeat: int, decoding: Decoding) -> None:
    """E0670 where all answers to a row would be the same."""
    if repeat > 1 and not samples_anything(plan, decoding):
        message = f"{repeat} answers to a row would all be the same: nothing is sampled (temperature 0)"
        raise fail("E0670", message, hint="sample them: `--temperature 0.6 --top-p 0.95`")


def votes(items: Sequence[Item], scorer: str | Function, repeat: int) -> list[float]:
    """For each row whether the answer is right that most of its `repeat` samples give, 0 to 1 (`repeats.majority`)."""
    how = declared(scorer)
    return [_majority(how, items[at : at + repeat]) for at in range(0, len(items), repeat)]


def _majority(scorer: Scorer, items: Sequence[Item]) -> float:
    return majority([(scorer.gist(item.said, item.gold), item.correct) for item in items])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def answer_losses(
    program: Program, rows: Sequence[Row], size: int, outputs: Sequence[str], probe: Probe | None = None
) -> list[Loss]:
    """For each row the negative log-likelihood (nats) of the gold answers of some outputs, teacher forced, summed over
    their tokens, and how many those are; ends of turn included."""
    found = losses_of(program, rows, range(len(rows)), size, outputs, probe)
    return [found[i] for i in range(len(rows))]


def _perplexity(loss: float, tokens: int) -> float:
    """loss: summed over the tokens, in nats."""
    if not tokens:
        return math.nan
    try:
        return math.exp(loss / tokens)
    except OverflowError:
        return math.inf
