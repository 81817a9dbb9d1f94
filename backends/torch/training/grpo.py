"""Training on rewards: GRPO, group relative policy optimisation (DeepSeekMath, arXiv 2402.03300).

What is maximised is in docs/semantics.md, section 10.6. Each row is answered by a group of samples, drawn by the fast
engine; their log-probabilities are computed by the exact one, so that how the fast one rounds enters nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from masc.backends.scoring.registry import Function, Scorer, scorer_of
from masc.backends.torch.data.check import answer_columns
from masc.backends.torch.data.values import Row
from masc.backends.torch.engine.labels import label_of
from masc.backends.torch.engine.outputs import Output, Said
from masc.backends.torch.engine.rounds import Rounds
from masc.backends.torch.model.adapters import derive
from masc.backends.torch.model.prompts import value
from masc.backends.torch.model.repeating import repeated
from masc.backends.torch.program import Program
from masc.backends.torch.training.metrics import Metrics
from masc.backends.torch.training.objective import Around, Work, zero
from masc.compiler.analysis.decoding import Decoding
from masc.compiler.analysis.policy import policy, sampled_texts
from masc.compiler.ir.plan import Plan
from masc.compiler.language.objectives import GRPO
from masc.dsl.diagnostics import Diagnostic, fail

PATIENCE = 5
"""Steps without any signal, from the first one on, after which that is told."""
SMALL = 1e-4
"""Added to a group's spread, by which its advantages are divided."""
_BOUNDS = {name: option.reads.bounds for name, option in GRPO.items() if option.reads.bounds is not None}


@dataclass(frozen=True)
class Grpo:
    """reward: the name of a scorer, which compares with the answer in the row, or a function of (said, gold, row) that
    gives any finite number (gold is empty where the row has no answer); group: answers to each row; clip: how far the
    ratio to the probability when it was sampled counts, beside 1; kl: the weight of the distance to the weights that
    training began with; updates: steps of the optimiser on one batch of answers. Errors:
    ValueError for a number out of range, E0611 no such scorer, E0661 a function that cannot score."""

    reward: str | Function
    group: int = 8
    clip: float = 0.2
    kl: float = 0.02
    updates: int = 1
    scorer: Scorer = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, limits in _BOUNDS.items():
            if wrong := limits.complaint(name, getattr(self, name)):
                raise ValueError(wrong)
        object.__setattr__(self, "scorer", scorer_of(self.reward, code=False))

    told = False

    def remarks(self, history: Sequence[Metrics]) -> list[Diagnostic]:
        """W0606 where the first steps have taught nothing."""
        first = len(history) == PATIENCE == history[-1]["step"]
        if not first or any(metrics["without_signal"] < 1 for metrics in history):
            return []
        same = history[-1]["reward"]
        message = f"in none of {PATIENCE} steps did two answers to a row differ in their reward (the last was {same:g})"
        hint = "begin with weights that are right now and then (--init-from), draw larger groups, or reward in parts"
        return [Diagnostic("W0606", f"{message}: nothing is learnt from that", hint=hint)]

    @property
    def compares(self) -> bool:
        return isinstance(self.reward, str)

    @property
    def anchored(self) -> bool:
        return self.kl > 0

    def text(self) -> str:
        named = ", ".join(f"{name} = {getattr(self, name)}" for name in _BOUNDS)
        return f"grpo(reward = {self.scorer.name}{self.scorer.mark and ' ' + self.scorer.mark[:12]}, {named})"

    def check(self, program: Program) -> None:
        plan = program.plan
        if len(plan.outputs) != 1:
            raise ValueError(f"a reward is of one output, and this graph has {len(plan.outputs)}")
        if told := [loss.output for loss in plan.losses if loss.output not in plan.outputs]:
            raise ValueError(f"with a reward no column supervises what agents say: take `{told[0]} <- ...` out")
        if program.gates():
            raise ValueError("gates (`gate = learned`) are judged by the loss of told answers: a reward trains none")

    def begin(self, around: Around, step: int, batch: Sequence[Row], indices: Sequence[int]) -> Drawn:
        program, settings, processes = around.program, around.settings, around.processes
        program.eval()  # what was sampled is what is scored: nothing is dropped
        named = label_of(program.here.profiled)
        parts = [(micro * processes.count + processes.rank) * settings.batch for micro in range(settings.accumulate)]
        own = [at + i for at in parts for i in range(settings.batch)]
        rows, numbers = [batch[i] for i in own], [indices[i] for i in own]
        each, where = repeated(rows, self.group), repeated(numbers, self.group)
        # A sample is drawn with the seed of its step, row and number: the same row twice in a batch is not drawn alike.
        copies = [self.group * i + number for i in own for number in range(self.group)]
        decoding = Decoding(temperature=1.0, top_p=1.0, seed=derive(settings.seed, "samples", step))
        plan = policy(program.plan, decoding.seed)
        with named("sample"), program.running(plan):
            found = dict(program.say_each(each, len(each), where, decoding, copies, cuts=True))
        program.free()  # memory that the gradients want
        said = [found[number] for number in range(len(each))]
        (output,) = program.plan.outputs
        column = answer_columns(program.plan)[output][1]
        rewards = [
            self._reward(one[output].text, value(row, column, i) if column in row else "", row, i)
            for one, row, i in zip(said, each, where, strict=True)
        ]
        groups = torch.tensor(rewards, dtype=torch.float64, device="cpu").view(-1, self.group)
        return Drawn(self, around, plan, rows, numbers, said, (output, *sampled_texts(plan)), groups)

    def _reward(self, said: str, gold: str, row: Row, index: int) -> float:
        """E0661 where a function gives something else than a finite number."""
        given = self.scorer.function(said, gold, row)
        try:
            found = float(given)
        except (TypeError, ValueError):
            found = math.nan
        if not math.isfinite(found):
            told = f"the reward `{self.scorer.name}` gave {str(given)[:80]!r} for row {index + 1}"
            raise fail("E0661", told, hint="a reward is a finite number, True or False")
        return found


def advantages(rewards: Tensor) -> Tensor:
    """How much better each answer is than its group, in spreads of the group. rewards: [N, G]; the same shape."""
    spread = rewards.std(1, correction=0, keepdim=True)
    return (rewards - rewards.mean(1, keepdim=True)) / (spread + SMALL)


def losses(now: Tensor, then: Tensor, start: Tensor | None, gains: Tensor, clip: float, kl: float) -> Tensor:
    """Of each token, [B, A]. now, then, start: its log-probability under the weights as they are, as they were when it
    was sampled, and as training began with them, [B, A]; gains: the advantage of each answer, [B]."""
    ratio = (now - then).exp()
    gain = gains[:, None].to(now.dtype)
    found = -torch.minimum(ratio * gain, ratio.clamp(1 - clip, 1 + clip) * gain)
    return found if start is None else found + kl * distance(now, start)


def distance(now: Tensor, start: Tensor) -> Tensor:
    """An estimate, never negative, of the KL divergence from `start`, token by token (k3: exp(d) - d - 1)."""
    apart = start - now
    return apart.exp() - apart - 1


@dataclass
class Drawn:
    """The sampled answers of one step, group by group: `rows` are N, `said` N * G. plan: that they were sampled by;
    spoken: what of all that was said the reward trains, the answer first; rewards: [N, G], float64, on the CPU; then:
    log-probabilities when it was sampled, pass by pass; they are those of the first `gradients`."""

    objective: Grpo
    around: Around
    plan: Plan
    rows: Sequence[Row]
    numbers: Sequence[int]
    said: Sequence[Mapping[str, Said]]
    spoken: Sequence[str]
    rewards: Tensor
    then: list[dict[str, Tensor]] = field(default_factory=list)

    def gradients(self, rounds: Rounds | None) -> Work:
        objective, program, processes = self.objective, self.around.program, self.around.processes
        named, settings = label_of(program.here.profiled), self.around.settings
        gains = advantages(self.rewards)
        passes = self._passes(gains)
        first, total = not self.then, len(self.said) * processes.count
        start = self._from_start(passes) if objective.anchored else [{} for _ in passes]
        summed, apart, positions = zero(program), zero(program), 0
        for number, (groups, beginning) in enumerate(zip(passes, start, strict=True)):
            last, gain = number == len(passes) - 1, gains[groups].flatten().to(program.device)
            with processes.exchanging(self.around.module, last), program.holding(rounds=rounds, plan=self.plan):
                out = self.around.module(**self._asked(groups), recompute=settings.checkpoint == "agent")
                now = self._spoken(out)
                if first:
                    self.then.append({name: one.detach() for name, one in now.items()})
                loss = zero(program)
                for name, one in now.items():
                    begun = beginning.get(name)
                    each = losses(one, self.then[number][name], begun, gain, objective.clip, objective.kl)
                    real = out.outputs[name].labels >= 0
                    loss = loss + _means(each, real).sum().to(loss.device)
                    if begun is not None:
                        apart += _means(distance(one.detach(), begun), real).sum().double().to(apart.device)
                with named("backward"):
                    (loss * (processes.count / total)).backward()
            summed += loss.detach()
            positions += out.positions
        told = self._told(apart, total)
        return Work(summed, total, int(told.pop("tokens")), positions, told=told)

    def _spoken(self, out: Output) -> dict[str, Tensor]:
        """The log-probabilities of what the reward trains, by name, [B, A]."""
        return {name: -out.outputs[name].losses for name in self.spoken}

    def _passes(self, gains: Tensor) -> list[list[int]]:
        """The groups of each forward pass: of as many rows as a batch has. One in which no answer is better than
        another pulls nowhere, and is left out where nothing else does; but for one at the end, since in the last pass
        processes exchange their gradients. gains: [N, G]."""
        size, count = self.around.settings.batch, len(self.rows)
        pulls = [self.objective.anchored or bool(own.any()) for own in gains]
        passes = [[i for i in range(at, at + size) if pulls[i]] for at in range(0, count, size)]
        passes[-1] = passes[-1] or [count - 1]
        return [groups for groups in passes if groups]

    def _asked(self, groups: Sequence[int]) -> dict[str, Any]:
        """What a forward pass over some groups is given. Each row stands there once, and so does what agents told each
        other where it was the same for all answers to it; what was sampled, or follows from that, each answer has of
        its own. This is where it is decided what a group shares."""
        size = self.objective.group
        own = [self.said[i * size : (i + 1) * size] for i in groups]
        told = {name: [[one[name].tokens for one in said] for said in own] for name in own[0][0]}
        shared = {n for n, by in told.items() if n not in self.spoken and all(len({*each}) == 1 for each in by)}
        answers = {n: [one for each in by for one in (each[:1] if n in shared else each)] for n, by in told.items()}
        rows, indices = [self.rows[i] for i in groups], [self.numbers[i] for i in groups]
        return {"rows": rows, "indices": indices, "answers": answers, "group": size}

    @torch.no_grad()
    def _from_start(self, passes: Sequence[Sequence[int]]) -> list[dict[str, Tensor]]:
        """The log-probabilities under the weights that training began with, pass by pass."""
        program = self.around.program
        with swapped(self.around.parameters, self.around.start), program.running(self.plan):
            return [self._spoken(program(**self._asked(groups))) for groups in passes]

    def _told(self, apart: Tensor, total: int) -> Metrics:
        """Metrics over all processes."""
        spreads = self.rewards.std(1, correction=0)
        tokens = sum(len(one[self.spoken[0]].tokens) for one in self.said)
        groups = len(self.rewards)
        sums = [self.rewards.sum(), spreads.sum(), (spreads == 0).double().sum()]
        own = torch.tensor([*map(float, sums), float(tokens), groups], dtype=torch.float64, device=apart.device)
        found = self.around.processes.reduced(torch.cat([own, apart[None]]), "sum").tolist()
        reward, spread, silent, tokens_, groups_, kl = found
        return {
            "reward": reward / total,
            "reward_std": spread / groups_,
            "without_signal": silent / groups_,
            **({"kl": kl / total} if self.objective.anchored else {}),
            "length": tokens_ / total,
            "tokens": tokens_,
        }


def _means(each: Tensor, real: Tensor) -> Tensor:
    """Over the tokens of each answer: [B, A] to [B]."""
    return (each * real).sum(1) / real.sum(1)


@contextmanager
def swapped(parameters: Mapping[str, torch.nn.Parameter], others: Mapping[str, Tensor]) -> Iterator[None]:
    """Within it the parameters hold other numbers; behind it their own, to the bit."""
    own = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    try:
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(others[name])
        yield
    finally:
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(own[name])
