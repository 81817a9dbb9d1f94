"""What runs in a worker's process, on any machine of the cluster: a program that answers rows, or runs of a comparison.

What a worker has to tell (warnings, lines of progress) goes to the command, which prints it."""

from __future__ import annotations

import os
import queue
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from masc.dsl.diagnostics import fail
from masc.terminal.console import hand_on

if TYPE_CHECKING:
    from masc.backends.torch.evaluation.answering import Answer, Draw, Loss, Numbers
    from masc.backends.torch.training.checkpoints import Checkpoint
    from masc.compiler.analysis.decoding import Decoding, Engine
    from masc.compiler.artifact import ModelRecord
    from masc.session.programs import Found
    from masc.studies.comparison import Result
    from masc.studies.comparison_runs import Run, Task

Row = Mapping[str, Any]
News = tuple[None, str]


@dataclass(frozen=True)
class Up:
    """What a worker tells when it is up. place: its machine; pid: its process there; kind: what has to be the same in
    all workers, by name; told: lines that a command on one machine prints."""

    place: str
    pid: int
    kind: Mapping[str, Any]
    told: tuple[str, ...] = ()
    numbers: Numbers | None = None
    models: tuple[ModelRecord, ...] = ()


class TeamWorker:
    """Answers rows with one program."""

    def begin(
        self, found: Found, trained: Mapping[str, bytes] | Checkpoint | None, dtype: str | None, device: str | None
    ) -> Up:
        from masc.backends.torch.evaluation.answering import Here
        from masc.compiler.artifact import versions
        from masc.session.programs import load_program

        told: list[str] = []
        hand_on(told.append)
        _check_device(device)
        program = load_program(found, dtype=dtype, device=device, trained=trained)
        program.eval()
        self.answering = Here(program)
        numbers, models = self.answering.numbers, self.answering.model_records()
        kind = {
            "base models": [(record.name, record.hash) for record in models],
            "dtypes": numbers.dtypes,
            "kinds of device": numbers.device.partition(":")[0],
            "versions of libraries": versions(),
        }
        return Up(socket.gethostname(), os.getpid(), kind, tuple(told), numbers, models)

    def digest(self) -> str:
        return self.answering.digest()

    def order(self, rows: Sequence[Row], indices: Sequence[int]) -> list[int]:
        return self.answering.order(rows, indices)

    def said(
        self, drawn: Sequence[Draw], rows: Sequence[Row], size: int, decoding: Decoding, engine: Engine
    ) -> Iterator[list[tuple[Draw, Answer]]]:
        for answer in self.answering.said(rows, drawn, size, decoding, engine):
            yield [(answer[:2], answer)]

    def losses(
        self, indices: Sequence[int], rows: Sequence[Row], size: int, outputs: Sequence[str], engine: Engine
    ) -> Iterator[list[tuple[int, Loss]]]:
        yield list(self.answering.losses_of(rows, indices, size, outputs, engine).items())


class RunWorker:
    """Does runs of a comparison, in a folder that all machines see."""

    def begin(self, folder: Path, mark: str, device: str | None) -> Up:
        """mark: what stands in the folder's file `SEEN`, if it is the same one."""
        from masc.backends.torch.build import fast_dtype
        from masc.compiler.artifact import versions
        from masc.session.outputs import SEEN

        place, seen = socket.gethostname(), folder / SEEN
        if not seen.is_file() or seen.read_text(encoding="utf-8") != mark:
            hint = "choose a folder with -o that all machines have under one path"
            raise fail("E0684", f"`{folder}` is not the same on {place}: runs are kept in it", hint=hint)
        _check_device(device)
        return Up(place, os.getpid(), {"dtypes": fast_dtype(device), "versions of libraries": versions()})

    def run(
        self, numbers: Sequence[int], together: Sequence[Sequence[Run]], out: Path, task: Task
    ) -> Iterator[Sequence[tuple[int, list[Result]] | News]]:
        """The results of runs that share a folder, one after the other; meanwhile what they tell."""
        from masc.studies.comparison import result_of

        for number in numbers:
            told: queue.SimpleQueue[str | list[Result] | BaseException] = queue.SimpleQueue()

            def one(run: Run, told: queue.SimpleQueue[Any] = told) -> Result:
                # "  step 3 of 60: loss 1.2" says there of which run it speaks
                hand_on(lambda line: told.put(f"{run.name}:{line[1:]}" if line.startswith("  ") else line))
                return result_of(run, out, task, None)

            def work(runs: Sequence[Run] = together[number], told: queue.SimpleQueue[Any] = told) -> None:
                try:
                    told.put([one(run) for run in runs])
                except BaseException as error:
                    told.put(error)

            threading.Thread(target=work, daemon=True).start()
            while isinstance(line := told.get(), str):
                yield [(None, line)]
            if isinstance(line, BaseException):
                raise line
            yield [(number, line)]


def _check_device(device: str | None) -> None:
    from masc.session.checks import device_problem

    if device is not None and (problem := device_problem(device)) is not None:
        raise fail("E0684", f"on {socket.gethostname()}: {problem}")
