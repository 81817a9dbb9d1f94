"""How much the answers of a program depend on chance: DiffMAS's other claim is that decoding becomes more stable
(arXiv 2604.21794)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace

from masc.backends.scoring.registry import Function, declared
from masc.backends.torch.data.check import answer_columns
from masc.backends.torch.data.values import Row
from masc.backends.torch.evaluation.evaluate import say_all
from masc.backends.torch.program import Program
from masc.compiler.analysis.decoding import Decoding
from masc.compiler.ir.plan import Sampling

TEMPERATURE, TOP_P = 0.6, 0.95
"""How LatentMAS's last agent samples (arXiv 2511.20639)."""


def agreement(
    program: Program,
    rows: Sequence[Row],
    scorer: str | Function,
    *,
    output: str | None = None,
    samples: int = 5,
    batch: int = 16,
    max_tokens: int | None = None,
) -> list[float]:
    """For each row the share, 0 to 1, of pairs among `samples` (>= 2) sampled answers that are the same answer to the
    scorer (`Scorer.gist`). All agents sample at temperature 0.6 and top-p 0.95, seeds 0, 1, ... max_tokens: of the
    outputs (None: the graph's)."""
    if samples < 2:
        raise ValueError("agreement needs at least two samples")
    gist = declared(scorer).gist
    output = output or program.plan.outputs[0]
    column = answer_columns(program.plan)[output][1]
    found: list[list[str]] = [[] for _ in rows]
    for seed in range(samples):
        with _sampling(program, seed):
            for i, said in say_all(program, rows, batch, decoding=Decoding(max_tokens=max_tokens)):
                found[i].append(gist(said[output].text, str(rows[i].get(column, ""))))
    pairs = samples * (samples - 1)
    return [sum(n * (n - 1) for n in Counter(gists).values()) / pairs for gists in found]


def _sampling(program: Program, seed: int) -> AbstractContextManager[None]:
    """Within it, every answer is sampled."""
    turns = tuple(
        replace(turn, answer=replace(turn.answer, sampling=_sampled(turn.answer.sampling, seed)))
        if turn.answer is not None
        else turn
        for turn in program.plan.turns
    )
    return program.running(replace(program.plan, turns=turns))


def _sampled(sampling: Sampling, seed: int) -> Sampling:
    return replace(sampling, temperature=TEMPERATURE, top_p=TOP_P, seed=seed)
