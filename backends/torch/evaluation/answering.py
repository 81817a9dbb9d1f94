"""What answers rows: a program in this process (`Here`), or programs on the machines of a cluster (`masc.cluster`)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from masc.backends.torch.data.values import Row
from masc.backends.torch.engine.measuring import batches
from masc.backends.torch.engine.outputs import Said
from masc.backends.torch.engine.probe import Probe
from masc.backends.torch.program import Program
from masc.compiler.analysis.decoding import Decoding, Engine
from masc.compiler.artifact import ModelRecord
from masc.compiler.ir.plan import Plan

Draw = tuple[int, int]
"""An answer that is asked for: the number of its row, and which of the row's samples it is."""
Answer = tuple[int, int, dict[str, Said]]
"""Row, sample, and what was said by output."""
Loss = tuple[float, int]
"""The summed loss of a row's gold answer, in nats, and of how many tokens."""


@dataclass(frozen=True)
class Numbers:
    """In which numbers a program computes. dtypes: of each agent's base; held: of the first one, in words; device:
    `cuda:0`."""

    dtypes: tuple[str, ...]
    held: str
    device: str


class Answering(Protocol):
    """What answers rows. An answer depends on its row, on which sample of it it is, and on nothing else (but for
    rounding): not on who shares its batch, and not on where it is decoded."""

    @property
    def plan(self) -> Plan: ...
    @property
    def numbers(self) -> Numbers: ...
    def model_records(self) -> tuple[ModelRecord, ...]:
        """Its base models, by content."""
        ...

    def digest(self) -> str:
        """A hash of the trained weights."""
        ...

    def order(self, rows: Sequence[Row], indices: Sequence[int]) -> list[int]:
        """Row numbers, longest row first."""
        ...

    def said(
        self, rows: Sequence[Row], drawn: Sequence[Draw], size: int, decoding: Decoding, engine: Engine
    ) -> Iterator[Answer]:
        """Decode answers, `size` at once; they come as they are done."""
        ...

    def losses(self, rows: Sequence[Row], size: int, outputs: Sequence[str], engine: Engine) -> list[Loss]:
        """Of the gold answers of each row, teacher forced."""
        ...


class Here:
    """A program in this process."""

    def __init__(self, program: Program) -> None:
        self.program = program

    @property
    def plan(self) -> Plan:
        return self.program.plan

    @property
    def numbers(self) -> Numbers:
        program = self.program
        bases = [program.base(agent.name) for agent in program.plan.agents]
        dtypes = tuple(str(base.model.dtype) for base in bases)
        return Numbers(dtypes, bases[0].held, str(program.device))

    def model_records(self) -> tuple[ModelRecord, ...]:
        return self.program.model_records()

    def digest(self) -> str:
        found = hashlib.sha256()
        for name, tensor in self.program.state_dict(trainable_only=True).items():
            found.update(f"{name} {tensor.dtype}\n".encode())
            # As uint8: numpy has no bfloat16.
            found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return found.hexdigest()

    def order(self, rows: Sequence[Row], indices: Sequence[int]) -> list[int]:
        return [i for batch in batches(self.program, rows, indices, 1) for i in batch]

    def said(
        self, rows: Sequence[Row], drawn: Sequence[Draw], size: int, decoding: Decoding, engine: Engine
    ) -> Iterator[Answer]:
        if engine == "fast":
            indices, numbers = [i for i, _ in drawn], [sample for _, sample in drawn]
            each = self.program.say_each([rows[i] for i in indices], size, indices, decoding, numbers, cuts=True)
            for at, said in each:
                yield (*drawn[at], said)
            return
        for first in range(0, len(drawn), size):
            part = drawn[first : first + size]
            indices, numbers = [i for i, _ in part], [sample for _, sample in part]
            found = self.program.say(
                [rows[i] for i in indices], indices, decoding=decoding, samples=numbers, cuts=True, engine=engine
            )
            for (i, sample), said in zip(part, found, strict=True):
                yield i, sample, said

    def losses(self, rows: Sequence[Row], size: int, outputs: Sequence[str], engine: Engine) -> list[Loss]:
        found = self.losses_of(rows, range(len(rows)), size, outputs, engine)
        return [found[i] for i in range(len(rows))]

    def losses_of(
        self, rows: Sequence[Row], indices: Sequence[int], size: int, outputs: Sequence[str], engine: Engine
    ) -> dict[int, Loss]:
        """Of some rows, by number."""
        with self.program.holding(quick=engine == "fast"):
            return losses_of(self.program, rows, indices, size, outputs)


def answering_of(program: Program | Answering) -> Answering:
    return Here(program) if isinstance(program, Program) else program


@torch.no_grad()
def losses_of(
    program: Program,
    rows: Sequence[Row],
    indices: Sequence[int],
    size: int,
    outputs: Sequence[str],
    probe: Probe | None = None,
) -> dict[int, Loss]:
    """For each of some rows the negative log-likelihood (nats) of the gold answers of some outputs, teacher forced,
    summed over their tokens, and how many those are; ends of turn included."""
    found: dict[int, Loss] = {}
    for batch in batches(program, rows, indices, size):
        out = program([rows[i] for i in batch], indices=batch, texts=False, probe=probe)
        scored = [out.outputs[name] for name in outputs]
        losses = torch.stack([one.losses.double().sum(1) for one in scored]).sum(0)
        counts = torch.stack([(one.labels != -100).sum(1) for one in scored]).sum(0)
        found |= dict(zip(batch, zip(losses.tolist(), counts.tolist(), strict=True), strict=True))
    return found
