"""What an artifact says of how its weights were trained."""

from __future__ import annotations

import dataclasses
import json

from masc.backends.torch.program import Program
from masc.backends.torch.training.origin import Origin
from masc.compiler.artifact import Training, versions
from masc.compiler.ir.plan import TrainSettings


def record_of(program: Program, origin: Origin, settings: TrainSettings) -> Training:
    """Of a run that has ended."""
    used = dataclasses.asdict(settings) | {"objective": origin.objective}  # also one that was given from Python
    return Training(
        rows=origin.rows,
        data_hash=origin.data,
        settings=tuple((name, json.dumps(value)) for name, value in used.items()),
        processes=origin.processes,
        versions=versions(),
        init_from=program.history.initialised_from,
        starts=_starts(program),
    )


def _starts(program: Program) -> tuple[tuple[str, str], ...]:
    """What adapters began with: as it was read; of a run that was gone on with, as the graph says it."""
    history, plan = program.history, program.plan
    if history.starts or history.initialised_from:
        return history.starts
    return tuple((a.name, a.own.start) for a in plan.agents if a.own is not None and a.own.start is not None)
