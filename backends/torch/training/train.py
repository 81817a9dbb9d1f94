"""The graph trainer: every agent's adapter and every link, end to end, on the answers' cross entropy (DiffMAS, stage
II).

A run is prepared, which checks everything and changes nothing, and then goes. What it does at a step is a function of
the settings, the seed and the step (`schedule.py`, `step.py`), so a run that was killed and resumed ends with the
weights that it would have had.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from masc.backends.memory import out_of_memory
from masc.backends.torch.data.rows import rows_of
from masc.backends.torch.data.values import Row
from masc.backends.torch.engine.measuring import by_length
from masc.backends.torch.engine.recorded import Recordings
from masc.backends.torch.engine.torch_defaults import as_it_was, usual_training
from masc.backends.torch.program import Program
from masc.backends.torch.training import checkpoints, origin, start
from masc.backends.torch.training.asked import asked_for
from masc.backends.torch.training.checkpoints import Checkpoint
from masc.backends.torch.training.checks import (
    check_rows,
    checked,
    chosen_of,
    never_closed,
    of_evaluation,
    parameters_of,
)
from masc.backends.torch.training.metrics import Metrics, MetricsFile
from masc.backends.torch.training.objective import Objective
from masc.backends.torch.training.processes import Processes, processes
from masc.backends.torch.training.profile import check_profile, profiling
from masc.backends.torch.training.record import record_of
from masc.backends.torch.training.schedule import data_order, due
from masc.backends.torch.training.step import Stepper, optimizer_of
from masc.backends.torch.training.supervised import Supervised
from masc.backends.torch.training.trackers import Trackers
from masc.compiler.artifact import writing
from masc.compiler.artifact.layout import PROFILE
from masc.compiler.files.writing import check_file, check_folder, sweep
from masc.compiler.ir.plan import TrainSettings
from masc.dsl.diagnostics import Diagnostic, MascError, errors, fail

Listener = Callable[[Metrics], None]
Teller = Callable[[Sequence[Diagnostic]], None]


def train(
    program: Program,
    rows: Sequence[Row],
    eval_rows: Sequence[Row] | None = None,
    *,
    directory: Path | str | None = None,
    resume: bool = False,
    force: bool = False,
    init_from: Path | str | None = None,
    listen: Listener | None = None,
    evaluate: Callable[[Program], Metrics] | None = None,
    trackers: Sequence[str] = (),
    profile: int | None = None,
    tell: Teller | None = None,
    objective: Objective | None = None,
    **settings: Any,
) -> list[Metrics]:
    """Train a program in place; returns the metrics of each step that ran.

    rows, eval_rows: dicts, in any iterable; data frames and data sets of `datasets` as well. directory: where
    `checkpoints/` and `metrics.jsonl` go (None: nowhere). resume: go on from the newest whole checkpoint there. force:
    forget a run that lies there. init_from: the artifact whose adapters are the beginning. listen: called with each
    step's metrics. evaluate: called every `eval_every` steps and at the end; without it, eval_rows are scored by loss.
    trackers: accelerate's names ("tensorboard", "wandb", ...). profile: so many steps are profiled, after two to warm
    up; a trace goes into the directory, and a table is printed (`profile.py`). tell: called with warnings (None:
    Python's). objective: what is made better (None: what the graph says). settings: `train` entries that differ from
    the graph's.

    The program is left in the mode in which it was, without gradients. Errors: TypeError and ValueError for settings
    that are none, and where the program is being trained already; E0604/E0607 a bad row; E0608 nothing to resume, a
    damaged checkpoint, or another run's; E0609 nothing to train; E0610 an earlier run is there; E0615 a checkpoint of
    another base model; E0645 too few steps to profile; E0701 a loss that is no number; E0702, E0703 memory, disk.
    """
    if isinstance(trackers, str):
        raise TypeError(f"`trackers` is a list of names, not a text: [{trackers!r}]")
    chosen = chosen_of(program.plan.train, settings)
    if settings.get("eval_every") and eval_rows is None and evaluate is None:
        raise ValueError("`eval_every` has nothing to evaluate on: give `eval_rows`, or `evaluate`")
    given = {**settings, **({"force": True} if force else {}), **({} if profile is None else {"profile": profile})}
    if directory is None and (idle := [n for n in ("save_every", "keep", "force", "profile") if n in given]):
        raise ValueError(f"`{idle[0]}` is about files, and these need a `directory`")
    run = prepare(
        program,
        rows,
        eval_rows,
        chosen,
        directory=directory,
        resume=resume,
        force=force,
        listen=listen,
        evaluate=evaluate,
        trackers=trackers,
        profile=profile,
        tell=tell,
        objective=objective,
    )
    run.init_from = None if init_from is None else Path(init_from)
    if isinstance(run.objective, Supervised) and (told := never_closed(program, chosen.steps)):
        (tell or _warn)(told)
    return run.go()


def prepare(
    program: Program,
    rows: Sequence[Row],
    eval_rows: Sequence[Row] | None,
    settings: TrainSettings,
    *,
    directory: Path | str | None = None,
    resume: bool = False,
    force: bool = False,
    listen: Listener | None = None,
    evaluate: Callable[[Program], Metrics] | None = None,
    trackers: Sequence[str] = (),
    profile: int | None = None,
    tell: Teller | None = None,
    show: Callable[[str], None] = print,
    objective: Objective | None = None,
) -> Run:
    """Check all that a run needs, and read the checkpoint that it goes on from; nothing is changed, in the program or
    on the disk. show: called with the table of a profile. Arguments and errors as of `train`."""
    if resume and directory is None:
        raise ValueError("resume=True needs the directory of the run that goes on")
    folder = None if directory is None else Path(directory)
    known, known_eval = rows_of(rows, "rows"), None if eval_rows is None else rows_of(eval_rows, "eval_rows")
    objective = objective or asked_for(settings)
    check_rows(program, known, known_eval, evaluate is None, settings.max_length, objective)
    parameters = parameters_of(program, objective)
    objective.check(program)
    run = Run(
        program=program,
        rows=known,
        eval_rows=known_eval,
        settings=settings,
        parameters=parameters,
        processes=processes(program.device),
        folder=folder,
        listen=listen,
        evaluate=evaluate,
        trackers=tuple(trackers),
        tell=tell or _warn,
        profile=profile,
        show=show,
        objective=objective,
    )
    if folder is not None:
        check_folder(folder / "checkpoints")
        check_file(folder / "metrics.jsonl")
        check_file(folder / PROFILE)
        if resume:
            run.found, run.damaged = checkpoints.newest(folder / "checkpoints")
            run.check_found()
        elif checkpoints.every(folder / "checkpoints") and not force:
            raise fail(
                "E0610",
                f"{folder} holds the checkpoints of an earlier run",
                hint="go on with --resume, or start over with --force",
            )
    check_profile(profile, settings.steps - (0 if run.found is None else run.found.step))
    return run


@dataclass
class Run:
    """A run that may go. found: the checkpoint that it goes on from; damaged: newer ones that are of no use."""

    program: Program
    rows: list[Row]
    eval_rows: list[Row] | None
    settings: TrainSettings
    parameters: Mapping[str, torch.nn.Parameter]
    processes: Processes
    folder: Path | None
    listen: Listener | None
    evaluate: Callable[[Program], Metrics] | None
    trackers: Sequence[str]
    tell: Teller
    profile: int | None = None
    show: Callable[[str], None] = print
    objective: Objective = field(default_factory=Supervised)
    found: Checkpoint | None = None
    damaged: Mapping[Path, str] = field(default_factory=dict)
    before: TrainSettings | None = None
    """The settings of the run that goes on."""
    init_from: Path | None = None
    """The artifact whose adapters it begins with."""
    done: int = 0
    """Steps that the weights in memory have seen."""
    saved: int = 0
    """Steps that the newest checkpoint has seen; 0: there is none."""
    start: str | None = None
    """The sha256 of the weights that it began with, where the objective looks at them."""
    stop: BaseException | None = None
    """What a signal's handler has raised. It is raised again after a step: in a finaliser Python loses it."""

    def check_found(self) -> None:
        """E0608 or E0615 where the checkpoint is another run's or cannot be read; all that differs is told at once."""
        if self.found is None:
            return
        path = str(self.found.path)
        try:
            known, near, settings = origin.read(self.found.state)
            self.before = checked(TrainSettings(**settings))
        except (TypeError, ValueError) as error:
            raise fail(
                "E0608", f"the checkpoint `{path}` cannot be read: {error}", hint="start over with --force"
            ) from None
        if wrong := origin.refusals(path, known, self._origin):
            raise MascError(wrong)
        checkpoints.check(self.found, self.parameters, self.objective.updates)
        step, steps = self.found.step, self.settings.steps
        if step > steps:
            hint = "ask for more steps, or start over with --force"
            raise fail("E0608", f"`{path}` has seen {step} steps already, and steps = {steps}", hint=hint)
        told = [
            Diagnostic("W0602", f"the checkpoint `{bad}` is damaged and left out: {why}; `{path}` is taken")
            for bad, why in self.damaged.items()
        ]
        told += origin.remarks(path, step, self.before, self.settings)
        self._tell([*told, *origin.drift(path, near, self._around)])

    def go(self) -> list[Metrics]:
        """Train; returns the metrics of each step that ran. E0641 where another process trains in the directory.
        ValueError where the program is being trained already."""
        here = writing(self.folder) if self.folder is not None and self.processes.main else nullcontext()
        device = self.program.device
        recordings = None if self.profile else Recordings.on(device)
        limited = self.program.holding(rounds=None, max_length=self.settings.max_length, recordings=recordings)
        alone = self.program.training_alone()
        with alone, here, as_it_was(self.program, device), limited, usual_training(device):
            if self.init_from is not None:
                self.program.init_from(self.init_from)
            try:
                return self._go()
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                hint = "lower `batch` and raise `accumulate`, or write `checkpoint agent` in the `train` block"
                message = f"there is not enough memory for what comes after step {self.done}"
                raise fail("E0702", message, hint=hint) from error

    def _go(self) -> list[Metrics]:
        settings = self.settings
        _ = self._origin  # it reads all weights, of which each process may soon have a part
        alphas = [gate.log_alpha for gate in self.program.gates().values() if gate.log_alpha.requires_grad]
        module = self.processes.wrapped(self.program, alphas, self.objective.told)
        optimizer = optimizer_of(self.program, self.parameters, settings)
        self._make_room()
        if self.found is not None:
            checkpoints.restore(self.found, self.parameters, optimizer)
            self.done = self.saved = self.found.step
        self.processes.wait()
        known = self._began() if self.objective.anchored else {}
        stepper = Stepper(
            self.program, module, self.parameters, optimizer, settings, self.processes, self.objective, known
        )
        size = settings.batch * settings.accumulate * self.processes.count
        order = data_order(settings.seed, len(self.rows), self.done * size)
        history = []
        with (
            Trackers(self.trackers if self.processes.main else (), self.folder, vars(settings), self.program) as told,
            profiling(self.program, self.profile if self.processes.main else None, self.folder, self.show) as within,
        ):
            told.draw(self.done)
            self._make_up_for(told)
            for step in range(self.done, settings.steps):
                indices = [next(order) for _ in range(size)]
                with within():
                    metrics = stepper.take(step, [self.rows[i] for i in indices], indices, self.saved)
                history.append(metrics)
                self.done = step + 1
                # Metrics before the checkpoint: then no step can be missing from them after a kill. Evaluation last:
                # one that fails costs nothing, and one that was killed is made up for.
                self._note(metrics, told)
                self._tell(self.objective.remarks(history))
                if self.stop is not None:
                    raise self.stop
                if due(settings.save_every, self.done, settings.steps):
                    self._save(optimizer)
                if due(settings.eval_every, self.done, settings.steps):
                    metrics.update(self._evaluated(told))
        if not all(bool(parameter.isfinite().all()) for parameter in self.parameters.values()):
            raise fail("E0701", "the weights are no longer numbers", hint="start over with a lower `rate`")
        record = record_of(self.program, self._origin, self.settings)
        self.program.note(dataclasses.replace(self.program.history, trained_by=record))
        return history

    def _began(self) -> dict[str, Tensor]:
        """The weights that this run began with, or the one that it goes on from."""
        folder = None if self.folder is None else self.folder / "checkpoints"
        if self.found is not None and folder is not None:
            self.start = self.found.state.get(start.KEY)
            return start.read(folder, self.found.state, self.parameters)
        kept, self.start = start.keep(folder if self.processes.main else None, self.parameters)
        return kept

    def _make_room(self) -> None:
        """Make the folder that of this run: without what ran before, or with it up to the checkpoint."""
        if self.folder is None or not self.processes.main:
            return
        folder = self.folder / "checkpoints"
        checkpoints.sweep(folder)
        # Of this run's own files, and where the folder is an artifact of those too that stand beside them.
        own = [path.name for path in self.folder.glob("*") if path.suffix in (".mas", ".yaml", ".yml")]
        sweep(self.folder, [*own, "metrics.jsonl", PROFILE, "manifest.json", "plan.json"])
        step = 0 if self.found is None else self.found.step
        for path in checkpoints.every(folder):
            if checkpoints.step_of(path) > step:  # of a run that is given up, or damaged
                checkpoints.remove(path)
        if self.found is None:
            self._metrics.drop()
            (self.folder / PROFILE).unlink(missing_ok=True)
        elif lost := self._metrics.keep(step):
            what = f"step {lost[0]}" if len(lost) == 1 else f"{len(lost)} steps, the first of them {lost[0]}"
            message = f"`{self._metrics.path}` has no line that can be read of {what}"
            self._tell([Diagnostic("W0604", f"{message}: the weights are whole, the record is not")])

    def _make_up_for(self, tracked: Trackers) -> None:
        """Run the evaluation that a kill has cut off after the checkpoint."""
        if self.found is None or self.before is None or not due(self.before.eval_every, self.done, self.before.steps):
            return
        if not self._metrics.evaluated(self.done):
            self._evaluated(tracked)

    def _evaluated(self, tracked: Trackers) -> Metrics:
        """Evaluate, and note what is found."""
        self.program.eval()
        try:
            with of_evaluation():
                found = self._evaluation()
        except MascError as error:
            raise (MascError(list(map(self._kept, error.diagnostics))) if self.saved == self.done else error) from error
        found.pop("step", None)
        if found and self.folder is not None and self.processes.main:
            self._metrics.append({"step": self.done, **found})
        tracked.log(found, self.done)
        return found

    def _kept(self, diagnostic: Diagnostic) -> Diagnostic:
        """The same, with where the weights are that an evaluation could not be made of."""
        where = f"the weights of step {self.done} are kept: `--checkpoint last` takes them, `--resume` goes on"
        return dataclasses.replace(diagnostic, hint=f"{diagnostic.hint}; {where}" if diagnostic.hint else where)

    def _evaluation(self) -> Metrics:
        if self.evaluate is not None:
            found = self.evaluate(self.program)
            if not isinstance(found, Mapping):
                raise TypeError(f"`evaluate` returns a dict of numbers, not {type(found).__name__}")
            return dict(found)
        if not self.eval_rows:
            return {}
        loss, tokens, size = 0.0, 0, self.settings.batch
        order = by_length(self.program.plan, self.eval_rows, range(len(self.eval_rows)))
        with torch.no_grad():
            for at in range(0, len(order), size):
                part = order[at : at + size]
                out = self.program([self.eval_rows[i] for i in part], indices=part)
                loss, tokens = loss + float(out.loss) * out.tokens, tokens + out.tokens
        return {"eval_loss": loss / tokens}

    def _note(self, metrics: Metrics, tracked: Trackers) -> None:
        if not self.processes.main:
            return
        if self.folder is not None:
            self._metrics.append(metrics)
        tracked.log(metrics, metrics["step"])
        if self.listen is not None:
            self.listen(metrics)

    def _save(self, optimizer: torch.optim.Optimizer) -> None:
        if self.folder is not None and self.processes.main:
            self._metrics.sync()
            state = origin.as_json(self._origin, self._around, self.settings)
            state |= {} if self.start is None else {start.KEY: self.start}
            checkpoints.write(
                self.folder / "checkpoints", self.done, self.parameters, optimizer, state, self.settings.keep
            )
        self.saved = self.done

    def _tell(self, diagnostics: Sequence[Diagnostic]) -> None:
        if diagnostics and self.processes.main:
            self.tell(diagnostics)

    @cached_property
    def _metrics(self) -> MetricsFile:
        assert self.folder is not None
        return MetricsFile(self.folder / "metrics.jsonl")

    @cached_property
    def _origin(self) -> origin.Origin:
        return origin.origin_of(self.program, self.rows, self.settings, self.processes.count, self.objective.text())

    @cached_property
    def _around(self) -> origin.Around:
        return origin.around(self.program, self.eval_rows, self.evaluate is None)


def _warn(diagnostics: Sequence[Diagnostic]) -> None:
    for diagnostic in diagnostics:
        assert not errors([diagnostic])
        warnings.warn(f"{diagnostic.code}: {diagnostic.message}", stacklevel=2)
