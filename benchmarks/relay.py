"""masc against a hand-written relay, pair by pair in one process: `python benchmarks/relay.py`.

Both run the same four agents (`examples/relay/relay.mas`) on the same prompts: decoding a fixed number of tokens,
and a whole training step. Printed for each pair: questions per second of either and the ratio masc / hand-written;
then the medians.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from handwritten import HandWrittenRelay

import masc
from masc.backends.torch.model.fetch import resolve
from masc.backends.torch.model.prompts import answer_ids, prompt_ids
from masc.compiler.ir.plan import Answer

QUESTION = "A box holds 12 eggs. Tom buys 3 boxes and breaks 5 eggs. How many eggs are whole?"


def pairs(name: str, batch: int, count: int, ours: Callable[[], object], theirs: Callable[[], object]) -> float:
    """Time both in turn, `count` times, the order swapped each time; prints each pair and returns the median ratio."""
    ours(), theirs()  # warm up
    ratios = []
    for i in range(count):
        seconds = {}
        for which in (ours, theirs) if i % 2 else (theirs, ours):
            began = time.perf_counter()
            which()
            seconds[which] = time.perf_counter() - began
        ratios.append(seconds[theirs] / seconds[ours])
        rates = (batch / seconds[ours], batch / seconds[theirs])
        print(f"{name:<22} masc {rates[0]:7.3f}/s  hand-written {rates[1]:7.3f}/s  ratio {ratios[-1]:.3f}", flush=True)
    return statistics.median(ratios)


def _longer(answer: Answer | None, tokens: int) -> Answer | None:
    return answer and replace(answer, sampling=replace(answer.sampling, max_tokens=tokens))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--latents", type=int, default=10)
    parser.add_argument("--dtype", default="bfloat16")
    options = parser.parse_args()
    graph = Path(__file__).parent.parent / "examples/relay/relay.mas"
    program = masc.compile(graph, set={"latents": options.latents}, dtype=options.dtype, device="cpu")
    plan = program.plan
    turns = tuple(replace(turn, answer=_longer(turn.answer, options.tokens)) for turn in plan.turns)
    plan = replace(plan, turns=turns)
    base = program.base(plan.agents[-1].name)
    base.stop_ids = frozenset()  # both decode the same fixed number of tokens
    lora = plan.agents[0].lora
    assert lora is not None
    hand = HandWrittenRelay(
        resolve(plan.models[0].target, graph.parent),
        next(base.model.parameters()).dtype,
        len(plan.agents),
        options.latents,
        lora.rank,
    )
    row = {"question": QUESTION, "answer": "31"}
    rows = [row] * options.batch
    prompts = [torch.tensor([prompt_ids(base, agent, row, 0)] * options.batch) for agent in plan.agents]
    answer = torch.tensor([answer_ids(base, row["answer"])] * options.batch)
    optimizer = torch.optim.AdamW(program.trainable().values(), lr=1e-4)

    def ours_train() -> None:
        program(rows).loss.backward()
        torch.nn.utils.clip_grad_norm_(program.trainable().values(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    with program.running(plan):
        run = pairs(
            "run", options.batch, options.pairs, lambda: program.say(rows), lambda: hand.run(prompts, options.tokens)
        )
        step = pairs(
            "training step", options.batch, options.pairs, ours_train, lambda: hand.train_step(prompts, answer)
        )
    print(f"median ratio: run {run:.3f}, training step {step:.3f} (masc / hand-written; 1 is equal)")


if __name__ == "__main__":
    main()
