"""The usual objective: the cross entropy of the answers that the data tells (docs/semantics.md, section 10)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from masc.backends.torch.data.values import Row
from masc.backends.torch.engine.labels import label_of
from masc.backends.torch.engine.measuring import by_length
from masc.backends.torch.engine.opening import opening_at
from masc.backends.torch.engine.outputs import Output
from masc.backends.torch.engine.rounds import Rounds
from masc.backends.torch.model.segments import Opening
from masc.backends.torch.program import Program
from masc.backends.torch.training.metrics import Metrics
from masc.backends.torch.training.objective import Around, Judged, Work, zero
from masc.dsl.diagnostics import Diagnostic


@dataclass(frozen=True)
class Supervised:
    updates = 1
    told = compares = True
    anchored = False

    def text(self) -> str:
        return "supervised"

    def check(self, program: Program) -> None:
        pass

    def remarks(self, history: Sequence[Metrics]) -> list[Diagnostic]:
        return []

    def begin(self, around: Around, step: int, batch: Sequence[Row], indices: Sequence[int]) -> Told:
        around.program.train()
        whole = opening_at(around.settings.seed, step, len(batch), around.program.gates())
        # The mean is over the answer tokens of the whole optimiser batch, not of each micro-batch.
        total = around.program.forward_tokens(batch)
        order = list(range(len(batch)))
        if len(batch) > around.settings.batch:  # rows of about equal length run together, so that little is padding
            order = by_length(around.program.plan, batch, indices)
        return Told(around, batch, indices, replace(whole, judged=True), total, order)


@dataclass(frozen=True)
class Told:
    """Rows with their answers. total: answer tokens of all processes; order: in which the rows are run."""

    around: Around
    batch: Sequence[Row]
    indices: Sequence[int]
    whole: Opening
    total: int
    order: list[int]

    def gradients(self, rounds: Rounds | None) -> Work:
        program, settings, processes = self.around.program, self.around.settings, self.around.processes
        named, world = label_of(program.here.profiled), processes.count
        summed, positions = zero(program), 0
        judged: list[Judged] = []
        for micro in range(settings.accumulate):
            at = (micro * world + processes.rank) * settings.batch
            part = self.order[at : at + settings.batch]
            opening = self.whole.of(part, program.device)
            last = micro == settings.accumulate - 1
            with processes.exchanging(self.around.module, last), program.holding(rounds=rounds):
                out = self.around.module(
                    [self.batch[i] for i in part],
                    opening=opening,
                    recompute=settings.checkpoint == "agent",
                    indices=[self.indices[i] for i in part],
                )
                # The exchange takes the mean over processes, hence the factor.
                with named("backward"):
                    if out.loss.requires_grad:  # not where gates alone are trained
                        (out.loss * (out.tokens * world / self.total)).backward()
            summed += out.loss.detach().double() * out.tokens
            positions += out.positions
            if opening.gates:
                judged.append(_judged(opening, out))
        return Work(summed, self.total, self.total, positions, judged)


def _judged(opening: Opening, out: Output) -> Judged:
    scored = out.outputs.values()
    losses = torch.stack([one.losses.detach().double().sum(1) for one in scored]).sum(0)
    tokens = torch.stack([(one.labels >= 0).double().sum(1) for one in scored]).sum(0)
    return Judged(torch.stack(list(opening.gates.values())), losses, tokens)
