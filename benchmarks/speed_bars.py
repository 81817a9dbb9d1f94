"""The bars of `speed.py`: what is measured, what against, and what it should be. Each is a function in `BARS`.

masc is called as its users call it: `masc.compile`, `program.generate`, `masc.train`, `masc.evaluate`. All teams run on
random weights of one shape, every agent with a LoRA adapter of rank 16 on all projections.
"""

from __future__ import annotations

import itertools
import json
import math
import random
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from dispatched import count, rows_through
from plain import PlainDecoder, PlainThinking, PlainTuning
from random_models import LFM2, SMOLLM2, TOY, TOY_LFM2, Shape, counting_from, random_model, write_countdown, write_model
from random_teams import ADAPT, chain, panel, program, rows, seen, talking, team

import masc

AGENTS = 4
ANSWER = 16
"""Tokens of a row's answer in training, its end not counted."""


@dataclass(frozen=True)
class Sizes:
    """How large everything is. hybrid: a model of convolutions and attention; positions: of each agent's prompt;
    latents: of each agent but the last; tokens: decoded between two times; spoken: by each agent of the text team;
    agents, steps: along which growth is measured."""

    shape: Shape
    hybrid: Shape
    positions: int
    latents: int
    tokens: int
    spoken: int
    many: int
    agents: tuple[int, ...]
    steps: tuple[int, ...]


FULL = Sizes(SMOLLM2, LFM2, 50, 10, 32, 64, 16, (2, 4, 8, 16, 32), (0, 5, 10, 20, 40))
SMALL = Sizes(TOY, TOY_LFM2, 20, 2, 4, 6, 3, (2, 3), (0, 1, 2))
BEFORE = 2
"""Tokens that are decoded before the clock starts."""


@dataclass
class Bench:
    """What bars run on. pairs: how often each comparison is made. folder: where models and teams are written. clock:
    seconds, as they are counted. dtype: of models and teams."""

    sizes: Sizes
    pairs: int
    folder: Path
    clock: Callable[[], float] = time.perf_counter
    dtype: torch.dtype = torch.bfloat16

    @cached_property
    def model(self) -> Path:
        """A folder with the random model."""
        return write_model(self.folder / "model", self.sizes.shape, self.dtype)

    def timed(self, call: Callable[[], object]) -> float:
        """Seconds of a call."""
        began = self.clock()
        call()
        return self.clock() - began

    def plain(self) -> Any:
        """The same model in memory of its own."""
        return random_model(self.sizes.shape, self.dtype)

    @cached_property
    def decoder(self) -> Any:
        """One that plain decoding shares."""
        return self.plain()

    @cached_property
    def team(self) -> Any:
        """Four agents in a chain, which most bars run."""
        return self.chain()

    @cached_property
    def counted(self) -> Mapping[str, float]:
        """Operations, kernels and waits of a decoded token at batch 8: those of a longer answer less those of a
        shorter one."""
        tokens = self.sizes.tokens
        made, given = self.team, rows(8)
        plain = PlainDecoder(self.decoder, 8, seen(made, given[0]), 2)
        say(made, given, BEFORE)
        whole = count(lambda: say(made, given, BEFORE + tokens))
        ours = whole - count(lambda: say(made, given, BEFORE))
        token = plain.prefill()
        theirs = count(lambda: plain.decode(token, 1))
        return {
            "operations": ours.operations / tokens,
            "kernels": ours.kernels / tokens,
            "waits": ours.waits / tokens,
            "plain, operations": theirs.operations,
            "plain, kernels": theirs.kernels,
            "plain, waits": theirs.waits,
        }

    def chain(self, agents: int = AGENTS, latents: int | None = None, answer: int = ANSWER, adapt: str = ADAPT) -> Any:
        steps = self.sizes.latents if latents is None else latents
        return self.made(chain(self.model, agents, self.sizes.positions, steps, answer=answer, adapt=adapt))

    def made(self, text: str) -> Any:
        """A team, from its program."""
        return program(self.folder, text, dtype=str(self.dtype).removeprefix("torch."))


@dataclass(frozen=True)
class Found:
    """values: the bar's number, of each pair (one where nothing is timed). parts: what it was made of."""

    values: Sequence[float]
    parts: Mapping[str, float]

    @property
    def median(self) -> float:
        return statistics.median(self.values)


@dataclass(frozen=True)
class Bar:
    """measured, against: in words. aim: the number should be at most (most: at least) this."""

    measured: str
    against: str
    aim: float
    measure: Callable[[Bench], Found]
    most: bool = False

    def reached(self, value: float) -> bool:
        return value >= self.aim if self.most else value <= self.aim


def pairs(bench: Bench, first: Callable[[], float], second: Callable[[], float]) -> Iterator[tuple[float, float]]:
    """Seconds of both, in turn, the order swapped each time; once before that to warm up."""
    first(), second()
    for i in range(bench.pairs):
        if i % 2:
            b, a = second(), first()
        else:
            a, b = first(), second()
        yield a, b


def divided(found: Sequence[tuple[float, float]], names: tuple[str, str], each: float = 1.0) -> Found:
    """Of pairs of seconds the ratios, and both medians in milliseconds of one of `each`."""
    medians = {
        name: 1000 * statistics.median(one) / each for name, one in zip(names, zip(*found, strict=True), strict=True)
    }
    return Found([a / b for a, b in found], medians)


def say(made: Any, given: Sequence[Mapping[str, Any]], tokens: int) -> None:
    """Decode so many tokens of each row. RuntimeError where an answer has ended before."""
    said = made.generate(given, max_tokens=tokens)
    if any(len(text.split()) != tokens for text in said):
        raise RuntimeError(f"an answer does not have {tokens} tokens: {said}")


# -- decoding ----------------------------------------------------------------------------------------------------------


def decoding(bench: Bench, batch: int, adapted: bool = True) -> Found:
    """A decoded token: the time of a longer answer less that of a shorter one, which leaves out what is before.
    adapted: whether the team's agents have adapters."""
    tokens = bench.sizes.tokens
    made, given = bench.team if adapted else bench.chain(adapt="adapt none"), rows(batch)
    plain = PlainDecoder(bench.decoder, batch, seen(made, given[0]), tokens + 1)

    def ours() -> float:
        whole = bench.timed(lambda: say(made, given, BEFORE + tokens))
        return whole - bench.timed(lambda: say(made, given, BEFORE))

    def theirs() -> float:
        token = plain.prefill()
        return bench.timed(lambda: plain.decode(token, tokens))

    found = list(pairs(bench, ours, theirs))
    return divided(found, ("masc, ms a token", "plain, ms a token"), tokens)


def hybrid(bench: Bench) -> Found:
    """A decoded token at batch 8 on a model most of whose layers keep states."""
    sizes = replace(bench.sizes, shape=bench.sizes.hybrid)
    return decoding(Bench(sizes, bench.pairs, bench.folder / "hybrid", bench.clock, bench.dtype), 8)


def operations(bench: Bench, which: str) -> Found:
    """What is dispatched for a decoded token at batch 8, and how often the processor waits."""
    return Found([bench.counted[which]], bench.counted)


# -- training ----------------------------------------------------------------------------------------------------------


def training(bench: Bench, batch: int) -> Found:
    """Positions a second of a step, against plain fine-tuning on as many positions. Told beside it is what the latent
    steps alone take in the bare model, one behind the other: fine-tuning has no such thing, and nothing saves it."""
    made, given = bench.team, rows(batch)
    with torch.no_grad():
        positions = made(given[:1]).positions
    plain = PlainTuning(bench.plain(), batch, positions, ANSWER + 1)
    times: list[tuple[float, float]] = []
    began = [bench.clock()]

    def listen(_: Mapping[str, Any]) -> None:
        ours = bench.clock() - began[0]
        times.append((bench.timed(plain.step), ours))
        began[0] = bench.clock()

    masc.train(made, given, steps=bench.pairs + 1, batch=batch, rate=1e-5, listen=listen)
    found = divided(times[1:], ("plain, ms a step", "masc, ms a step"))
    thinking = PlainThinking(bench.plain(), batch, (AGENTS - 1) * bench.sizes.latents)
    bare = min(bench.timed(thinking.step) for _ in range(2))
    return Found(found.values, {**found.parts, "latent steps alone, ms": 1000 * bare, "positions": positions * batch})


def training_siblings(bench: Bench) -> Found:
    """A step of three agents side by side before a judge, against that of the same three one behind the other."""
    given = rows(4)

    def steps(aside: bool) -> list[float]:
        sizes, found = bench.sizes, [bench.clock()]
        made = bench.made(panel(bench.model, 3, sizes.positions, sizes.latents, aside=aside))
        masc.train(made, given, steps=bench.pairs + 1, batch=4, rate=1e-5, listen=lambda _: found.append(bench.clock()))
        return [after - before for before, after in itertools.pairwise(found)][1:]

    found = list(zip(steps(aside=False), steps(aside=True), strict=True))
    return divided(found, ("chain, ms a step", "panel, ms a step"))


def training_operations(bench: Bench) -> Found:
    """Operations of one training step at batch 4: those of a run of two less those of a run of one."""
    made, given = bench.team, rows(4)

    def run(steps: int) -> Callable[[], object]:
        return lambda: masc.train(made, given, steps=steps, batch=4, rate=1e-5)

    run(1)()
    found = count(run(2)) - count(run(1))
    return Found([found.operations], {"operations": found.operations, "kernels": found.kernels, "waits": found.waits})


# -- many rows and teams -----------------------------------------------------------------------------------------------


def siblings(bench: Bench) -> Found:
    """Three agents side by side, against the same three one behind the other; a judge of few positions says a token."""
    sizes, given = bench.sizes, rows(1)
    aside, behind = (
        bench.made(panel(bench.model, 3, sizes.positions, sizes.latents, aside=aside)) for aside in (True, False)
    )
    found = list(
        pairs(
            bench, lambda: bench.timed(lambda: say(behind, given, 1)), lambda: bench.timed(lambda: say(aside, given, 1))
        )
    )
    return divided(found, ("chain, ms a row", "panel, ms a row"))


def wanted(bench: Bench) -> Found:
    """64 rows with answers of 4 to 128 tokens at batch 16: positions decoded that were wanted, of all. The model counts
    down, so that each row says how long its answer is."""
    lengths = [4 + round(i * 124 / 63) for i in range(64)]
    random.Random(0).shuffle(lengths)
    model = write_countdown(bench.folder / "countdown", 130)
    inner, width, layers = (
        config_of(model)[name] for name in ("intermediate_size", "hidden_size", "num_hidden_layers")
    )
    agents = ['agent a on m { user "w1 {q}" think 2 }\n', 'agent b on m { user "w2 {q}" answer (max_tokens = 200) }\n']
    made = program(bench.folder, team(model, agents, "  a -> b : kv"), dtype="float32")
    given = [{"q": text, "answer": text} for text in counting_from(lengths)]
    reports: list[Any] = []

    def run(tokens: int) -> int:
        def call() -> None:
            reports.append(masc.evaluate(made, given, batch=16, max_tokens=tokens))

        return rows_through(call, inner, width, layers)

    made.generate(given[:1], max_tokens=1)  # modules are tried once, when they are first run
    passed = run(200) - run(1)
    if reports[0].tokens_decoded != sum(lengths):
        raise RuntimeError(f"{reports[0].tokens_decoded} tokens were decoded, not {sum(lengths)}")
    return Found([sum(lengths) / passed], {"wanted": sum(lengths), "decoded": passed})


def config_of(model: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((model / "config.json").read_text(encoding="utf-8"))
    return found


def words_against_latents(bench: Bench) -> Found:
    """A batch of rows through four agents, against the same four in words."""
    sizes = bench.sizes
    text = bench.made(talking(bench.model, 4, sizes.positions, sizes.spoken))
    given = rows(sizes.many)
    found = list(
        pairs(
            bench,
            lambda: bench.timed(lambda: say(text, given, sizes.spoken)),
            lambda: bench.timed(lambda: say(bench.team, given, sizes.spoken)),
        )
    )
    return divided(found, ("text team, ms a row", "masc, ms a row"), sizes.many)


# -- growth ------------------------------------------------------------------------------------------------------------


def growth(bench: Bench, calls: Mapping[int, Callable[[], object]], zero: int | None = None) -> Found:
    """The exponent with which the time of a call grows with its size, by a straight line through the logarithms. zero:
    the size whose time is taken off all others first."""
    times: dict[int, list[float]] = {size: [] for size in calls}
    for turn in range(bench.pairs + 1):
        for size, call in calls.items():
            seconds = bench.timed(call)
            if turn:
                times[size].append(seconds)
    rounds = [dict(zip(times, one, strict=True)) for one in zip(*times.values(), strict=True)]
    medians = {size: statistics.median(found) for size, found in times.items()}
    parts = {f"{size}, ms": 1000 * seconds for size, seconds in medians.items()}
    exponents = [slope(one, zero) for one in rounds]
    return Found([slope(medians, zero)], {**parts, "lowest": min(exponents), "highest": max(exponents)})


def slope(times: Mapping[int, float], zero: int | None) -> float:
    """d log(seconds) / d log(size), least squares."""
    base = 0.0 if zero is None else times[zero]
    points = [(math.log(n), math.log(max(1e-9, t - base))) for n, t in times.items() if n != zero]
    return statistics.linear_regression(*zip(*points, strict=True)).slope


def along_agents(bench: Bench) -> Found:
    """By the agents that think: the last one does not, and answers alone where there is no other."""
    teams = {agents - 1: bench.chain(agents, 4, answer=1) for agents in (1, *bench.sizes.agents)}
    return growth(bench, {size: partial(say, made, rows(1), 1) for size, made in teams.items()}, zero=0)


def along_latents(bench: Bench) -> Found:
    teams = {steps: bench.chain(4, steps, answer=1) for steps in bench.sizes.steps}
    return growth(bench, {size: partial(say, made, rows(1), 1) for size, made in teams.items()}, zero=0)


def along_adapters(bench: Bench) -> Found:
    """How long a team takes to be made, its model loaded, before anything runs."""
    return growth(bench, {agents: partial(bench.chain, agents, 1, answer=1) for agents in bench.sizes.agents})


BARS: Mapping[str, Bar] = {
    **{
        f"decode-{batch}": Bar(
            f"decoding a token, batch {batch}, time",
            "plain transformers, static cache, no adapter",
            aim,
            partial(decoding, batch=batch),
        )
        for batch, aim in ((1, 1.15), (8, 1.2), (32, 1.25))
    },
    "decode-bare": Bar(
        "decoding a token, batch 8, a team without adapters, time",
        "plain transformers, static cache",
        1.2,
        partial(decoding, batch=8, adapted=False),
    ),
    "decode-hybrid": Bar(
        "decoding a token of a hybrid, batch 8, time", "plain transformers, static cache, no adapter", 1.2, hybrid
    ),
    "operations": Bar(
        "operations dispatched a decoded token, batch 8", "counted", 2600, partial(operations, which="operations")
    ),
    "waits": Bar("waits for the device a decoded token, batch 8", "counted", 0.5, partial(operations, which="waits")),
    **{
        f"train-{batch}": Bar(
            f"training, batch {batch}, positions a second",
            "plain PEFT LoRA fine-tuning of as many positions",
            aim,
            partial(training, batch=batch),
            most=True,
        )
        for batch, aim in ((4, 0.65), (16, 1.1))
    },
    "train-panel": Bar(
        "training three siblings before a judge, batch 4, speed",
        "the same three one behind the other",
        1.0,
        training_siblings,
        most=True,
    ),
    "train-operations": Bar(
        "operations of a training step, four agents, 10 latents, batch 4", "counted", 147_000, training_operations
    ),
    "panel": Bar(
        "three siblings before a judge, batch 1, speed", "the same three one behind the other", 2.0, siblings, most=True
    ),
    "wanted": Bar(
        "64 rows, answers of 4 to 128 tokens, batch 16",
        "positions decoded that were wanted, of all",
        0.85,
        wanted,
        most=True,
    ),
    "text-team": Bar(
        "a batch of rows through four agents, speed",
        "the same four as text agents of 64 tokens each",
        3.6,
        words_against_latents,
        most=True,
    ),
    "grow-agents": Bar("time of a row along agents that think, 1 to 31", "exponent of growth", 1.1, along_agents),
    "grow-latents": Bar("time of a row along latent steps, 0 to 40", "exponent of growth", 1.1, along_latents),
    "grow-made": Bar("time of making a team of 2 to 32 agents", "exponent of growth", 1.1, along_adapters),
}
