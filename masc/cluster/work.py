"""Rows answered, and comparisons run, by the workers of a cluster: what `--ray` puts in the place of this process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from masc.backends.torch.evaluation.answering import Answer, Draw, Here, Loss, Numbers
from masc.cluster.connect import Place, cluster, nodes_of, share_of
from masc.cluster.crew import Crew
from masc.cluster.worker import RunWorker, TeamWorker, Up
from masc.dsl.diagnostics import fail
from masc.session.outputs import SEEN
from masc.session.programs import Found, load_program, trained_of
from masc.studies.comparison import Doing, Result
from masc.studies.comparison_runs import Run, Task, weights_key
from masc.terminal.console import bar, say

if TYPE_CHECKING:
    from masc.backends.torch.data.values import Row
    from masc.compiler.analysis.decoding import Decoding, Engine
    from masc.compiler.artifact import ModelRecord
    from masc.compiler.ir.plan import Plan
    from masc.compiler.pipeline import Compilation


class Team:
    """Programs on a cluster that answer rows as one (`Answering`)."""

    def __init__(self, crew: Crew, first: Up, plan: Plan) -> None:
        assert first.numbers is not None
        self._crew, self._models = crew, first.models
        self.plan: Plan = plan
        self.numbers: Numbers = first.numbers

    def model_records(self) -> tuple[ModelRecord, ...]:
        return self._models

    def digest(self) -> str:
        return str(self._crew.ask("digest"))

    def order(self, rows: Sequence[Row], indices: Sequence[int]) -> list[int]:
        found: list[int] = self._crew.ask("order", rows, list(indices))
        return found

    def said(
        self, rows: Sequence[Row], drawn: Sequence[Draw], size: int, decoding: Decoding, engine: Engine
    ) -> Iterator[Answer]:
        given = (rows, size, decoding, engine)
        for _, answer in self._crew.each("said", drawn, *given, least=size, name=lambda draw: _row(draw[0])):
            yield answer

    def losses(self, rows: Sequence[Row], size: int, outputs: Sequence[str], engine: Engine) -> list[Loss]:
        given = (rows, size, list(outputs), engine)
        found = dict(self._crew.each("losses", range(len(rows)), *given, least=size, name=_row))
        return [found[i] for i in range(len(rows))]


def _row(index: int) -> str:
    return f"row {index + 1}"


@contextmanager
def answering(found: Found, place: Place | None, *, dtype: str | None, device: str | None) -> Iterator[Here | Team]:
    """What answers rows with a program: in this process, or on a cluster. Errors of `load_program`; E0682 to E0684."""
    if place is None:
        yield Here(load_program(found, dtype=dtype, device=device))
    else:
        with _team(found, place, dtype, device) as team:
            yield team


@contextmanager
def _team(found: Found, place: Place, dtype: str | None, device: str | None) -> Iterator[Team]:
    """A program on each worker. Its weights are sent to them; the base models must be on their machines."""
    trained = trained_of(found)
    sent = replace(found, compilation=_anywhere(found.compilation))
    with cluster(place.address) as ray:
        begin = (ray.put(sent), None if trained is None else ray.put(trained), dtype, device)
        with _crew(ray, TeamWorker, begin, place, device) as (crew, first):
            for line in first.told:
                say(line)
            yield Team(crew, first, found.plan)


def runs_on(place: Place) -> Doing:
    """How a comparison does its runs on a cluster: each on a worker, those that share weights one after the other."""

    def results(runs: Sequence[Run], out: Path, task: Task) -> list[Result]:
        together: dict[str, list[int]] = {}
        for number, run in enumerate(runs):
            together.setdefault(weights_key(run, task), []).append(number)
        groups = list(together.values())
        sent = [[replace(runs[i], compilation=_anywhere(runs[i].compilation)) for i in group] for group in groups]
        found: dict[int, Result] = {}
        folder = out.absolute()
        with cluster(place.address) as ray, _marked(folder) as mark, bar() as progress:
            shown = progress.add_task("compare", total=len(runs))
            with _crew(ray, RunWorker, (folder, mark, task.device), place, task.device) as (crew, _):
                each = crew.each(
                    "run", range(len(groups)), sent, folder, task, name=lambda i: runs[groups[i][0]].name, news=say
                )
                for number, done in each:
                    found |= zip(groups[number], done, strict=True)
                    progress.advance(shown, len(done))
        return [found[number] for number in range(len(runs))]

    return results


@contextmanager
def _marked(folder: Path) -> Iterator[str]:
    """A file in a folder within it, with something in it that no other has."""
    folder.mkdir(parents=True, exist_ok=True)
    mark = uuid4().hex
    (folder / SEEN).write_text(mark, encoding="utf-8")
    try:
        yield mark
    finally:
        (folder / SEEN).unlink(missing_ok=True)


@contextmanager
def _crew(ray: Any, kind: type, begin: Sequence[Any], place: Place, device: str | None) -> Iterator[tuple[Crew, Up]]:
    """Workers of a kind, and what the first one told. E0684 for one that would compute otherwise than it."""
    share = share_of(nodes_of(ray), place.workers, device)
    actor = ray.remote(kind).options(num_cpus=share.cores, num_gpus=share.gpus)
    up: list[Up] = []

    def welcome(one: Up) -> None:
        up.append(one)
        for what, value in one.kind.items():
            if value != (known := up[0].kind[what]):
                message = f"{what} differ: {up[0].place} has {known}, {one.place} has {value}"
                raise fail("E0684", message, hint="answers would depend on the machine; make them alike")

    with Crew(ray, actor.remote, begin, share.workers, welcome) as crew:
        crew.start()
        say(f"{share.workers} worker{'s' * (share.workers != 1)} on a Ray cluster")
        yield crew, up[0]


def _anywhere(compilation: Compilation) -> Compilation:
    """With paths that hold in any working directory."""
    return replace(compilation, base=compilation.base.absolute())
