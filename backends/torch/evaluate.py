"""Running and scoring many rows: batches sorted by length, results in the order of the rows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch

from masc.backends.torch.code_scorer import has_tests, passes, program_of
from masc.backends.torch.data import answer_columns
from masc.backends.torch.probe import Probe
from masc.backends.torch.program import Program, Said
from masc.backends.torch.prompts import Row, prompt_ids, value
from masc.backends.torch.scorers import SCORERS
from masc.backends.torch.statistics import wilson
from masc.compiler.plan import Think
from masc.dsl.diagnostics import did_you_mean, fail


def batches(program: Program, rows: Sequence[Row], indices: Sequence[int], size: int) -> list[list[int]]:
    """Row numbers (out of `indices`) in batches of rows of about equal length, longest first: what does not fit in
    memory shows at once. Length is that of all agents' prompts together."""
    inputs = program.plan.inputs
    lengths = {
        i: sum(len(prompt_ids(program.base(agent.name), agent, rows[i], i, inputs)) for agent in program.plan.agents)
        for i in indices
    }
    ordered = sorted(indices, key=lambda i: (-lengths[i], i))
    found = [ordered[at : at + size] for at in range(0, len(ordered), size)]
    if len(found) > 1 and len(found[-1]) == 1 and size > 1:  # a probe swaps within a batch: nobody stands alone
        last = [*found.pop(-2), *found.pop()]
        found += [last] if size == 2 else [last[:-2], last[-2:]]
    return found


def say_all(
    program: Program,
    rows: Sequence[Row],
    size: int,
    skip: frozenset[int] = frozenset(),
    probe: Probe | None = None,
) -> Iterator[tuple[int, dict[str, Said]]]:
    """Decode every row not in `skip`; yields (row number, what was said by output), batch by batch."""
    for batch in batches(program, rows, [i for i in range(len(rows)) if i not in skip], size):
        said = program.say([rows[i] for i in batch], batch, probe)
        yield from zip(batch, said, strict=True)


@dataclass(frozen=True)
class Report:
    """The numbers of one evaluation."""

    items: int
    """Rows that were scored."""
    correct: int
    """Rows whose answer was right."""
    accuracy: float
    """Share of right answers, 0 to 1."""
    low: float
    """Lower end of the 95% Wilson interval of the accuracy, 0 to 1."""
    high: float
    """Upper end of it."""
    gold_perplexity: float
    """exp of the mean negative log-likelihood (nats) of a token of the scored output's gold answers, teacher forced,
    ends of turn included. NaN where rows lack the gold answer of some output."""
    decoded_perplexity: float
    """exp of the mean negative log-likelihood (nats) of a token of the scored output's decoded answers, ends of turn
    included."""
    tokens_decoded: int
    """Tokens of all outputs' answers without ends of turn, summed over all rows."""
    latent_steps: int
    """Latent steps of all agents, summed over all rows."""
    seconds: float
    """Wall time in seconds of decoding and scoring, without that of the gold perplexity."""

    def json(self) -> dict[str, Any]:
        """As a dict for JSON; a perplexity that is not finite becomes None."""
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in asdict(self).items()}


@dataclass(frozen=True)
class Item:
    """One row's result. index: its number in the data, from 0; gold: empty where code is scored without it."""

    index: int
    said: str
    gold: str
    correct: bool


@torch.no_grad()
def evaluate(
    program: Program,
    rows: Sequence[Row],
    scorer: str = "exact",
    *,
    batch: int = 16,
    output: str | None = None,
    allow_code_execution: bool = False,
    tick: Callable[[int], None] | None = None,
) -> tuple[Report, list[Item]]:
    """Decode and score rows.

    scorer: exact, number, choice or code. output: which output is scored (default: the first). tick: called with the
    number of rows done since the last call. Errors: E0605 no rows; E0611 an unknown scorer or output, or code that
    may not be run; those of rows, which name them by their number in `rows`.
    """
    if not rows:
        raise fail("E0605", "there are no rows to evaluate")
    known = [*SCORERS, "code"]
    if scorer not in known:
        hint = did_you_mean(scorer, known) or f"known are {', '.join(known)}"
        raise fail("E0611", f"unknown scorer `{scorer}`", hint=hint)
    if scorer == "code" and not allow_code_execution:
        raise fail("E0611", "the code scorer runs what the model wrote", hint="allow it with --allow-code-execution")
    output = output or program.plan.outputs[0]
    answers = answer_columns(program.plan)
    if output not in answers:
        raise fail("E0611", f"the graph has no output `{output}`", hint=did_you_mean(output, list(answers)))
    column = answers[output][1]
    for i, row in enumerate(rows):
        if scorer == "code" and not has_tests(row):
            hint = "the columns of HumanEval (`test`) and MBPP (`test_list`) work as they are"
            raise fail("E0604", f"row {i + 1} has no column `test`, which the code scorer runs", hint=hint)
    gold = [value(row, column, i) if scorer != "code" or column in row else "" for i, row in enumerate(rows)]
    program.eval()
    # First, since it is quick and says at once which rows are too long.
    needed = {answers[name][1] for name in program.plan.outputs}
    all_gold = all(label in row for row in rows for label in needed)
    gold_perplexity = _gold_perplexity(program, rows, batch, output) if all_gold else math.nan
    began = time.perf_counter()
    items: list[Item | None] = [None] * len(rows)
    logprob, scored, tokens = 0.0, 0, 0
    for i, said in say_all(program, rows, batch):
        one = said[output]
        if scorer == "code":
            right = passes(program_of(one.text, rows[i]))
        else:
            right = SCORERS[scorer](one.text, gold[i])
        items[i] = Item(i, one.text, gold[i], right)
        logprob, scored = logprob + one.logprob, scored + one.scored
        tokens += sum(len(s.ids) for s in said.values())
        if tick is not None:
            tick(1)
    seconds = time.perf_counter() - began
    done = [item for item in items if item is not None]
    correct = sum(item.correct for item in done)
    low, high = wilson(correct, len(done))
    thinking = sum(op.steps for op in program.plan.operations if isinstance(op, Think))
    return (
        Report(
            items=len(done),
            correct=correct,
            accuracy=correct / len(done),
            low=low,
            high=high,
            gold_perplexity=gold_perplexity,
            decoded_perplexity=_perplexity(-logprob, scored),
            tokens_decoded=tokens,
            latent_steps=thinking * len(done),
            seconds=round(seconds, 3),
        ),
        done,
    )


@torch.no_grad()
def answer_losses(
    program: Program, rows: Sequence[Row], size: int, outputs: Sequence[str], probe: Probe | None = None
) -> list[tuple[float, int]]:
    """For each row the negative log-likelihood (nats) of the gold answers of some outputs, teacher forced, summed over
    their tokens, and how many those are; ends of turn included."""
    found: list[tuple[float, int]] = [(0.0, 0)] * len(rows)
    for batch in batches(program, rows, range(len(rows)), size):
        out = program([rows[i] for i in batch], indices=batch, texts=False, probe=probe)
        scored = [out.outputs[name] for name in outputs]
        losses = torch.stack([one.losses.double().sum(1) for one in scored]).sum(0)
        counts = torch.stack([(one.labels != -100).sum(1) for one in scored]).sum(0)
        for i, loss, count in zip(batch, losses.tolist(), counts.tolist(), strict=True):
            found[i] = (loss, count)
    return found


def _gold_perplexity(program: Program, rows: Sequence[Row], size: int, output: str) -> float:
    losses = answer_losses(program, rows, size, [output])
    return _perplexity(sum(loss for loss, _ in losses), sum(count for _, count in losses))


def _perplexity(loss: float, tokens: int) -> float:
    """loss: summed over the tokens, in nats."""
    if not tokens:
        return math.nan
    try:
        return math.exp(loss / tokens)
    except OverflowError:
        return math.inf
