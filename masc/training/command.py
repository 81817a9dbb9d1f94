"""`masc train`: an artifact is compiled if need be, trained, and given its weights. Nobody else writes there then."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from masc.compiler.artifact import (
    Layout,
    Manifest,
    artifact_of,
    check_overwrite,
    has_adapters,
    has_checkpoints,
    has_weights,
    is_other_rank,
    known_manifest,
    locate,
    write_artifact,
    writing,
)
from masc.compiler.files.sources import RowSource
from masc.compiler.passes.data_files import missing_columns
from masc.compiler.pipeline import Compilation
from masc.dsl.diagnostics import Diagnostic, MascError, fail
from masc.session.programs import accepted, compile_remembering, data_source, tell_remembered
from masc.session.weights import check_models
from masc.terminal.console import report, say
from masc.training import progress as training

if TYPE_CHECKING:
    from masc.backends.torch.program import Program
    from masc.backends.torch.training.train import Run


@dataclasses.dataclass(frozen=True)
class Request:
    """What the command line says. argument: the file or artifact; columns: what columns of the graph are called
    in the data; init_from: the artifact to begin with; profile: how many steps are profiled; around: what surrounds
    the run once it is prepared, such as a page of it."""

    argument: Path | None
    sets: Mapping[str, str]
    data: str | None = None
    eval_data: str | None = None
    columns: Mapping[str, str] = dataclasses.field(default_factory=dict)
    resume: bool = False
    force: bool = False
    init_from: Path | None = None
    scorer: str = "exact"
    trackers: tuple[str, ...] = ()
    profile: int | None = None
    device: str | None = None
    around: Callable[[Run], AbstractContextManager[None]] | None = None


def train(asked: Request) -> None:
    """Train an artifact. Errors: E0641 where another process writes there; E0610, E0643 where an earlier run would be
    lost or cannot be gone on with; those of the file, the data, training. What is refused has changed nothing."""
    path = locate(asked.argument, Path())
    root = artifact_of(path)
    with nullcontext() if is_other_rank() else writing(root):
        _train(asked, path, root)


def _train(asked: Request, path: Path, root: Path) -> None:
    from masc.session.columns import read, reading

    known = known_manifest(Layout(root))
    settled = () if asked.eval_data is None else ("W0217",)
    compilation = accepted(compile_remembering(path, root, asked.sets), settled)
    plan = compilation.require()
    _check_earlier(root, compilation, known, asked)
    _tell(path, root, compilation, known, asked)
    settings = plan.train
    learning = reading(plan, asked.columns, labels=True)
    data = data_source(asked.data, settings.data, compilation.base, "data")
    if wrong := _missing(compilation, data, asked.columns):
        raise MascError(wrong)
    rows = read(data, learning)
    eval_rows = None
    if asked.eval_data or settings.eval_data:
        test = data_source(asked.eval_data, settings.eval_data, compilation.base, "eval_data")
        eval_rows = read(test, reading(plan, asked.columns, labels=True, texts=False))

    from masc.backends.torch.build import build, fast_dtype  # here, for it takes seconds: what is wrong shows before
    from masc.backends.torch.engine.history import History

    dtype = settings.dtype or (training.dtype_before(root) if asked.resume else None) or fast_dtype(asked.device)
    history = History(compilation)
    on = asked.resume and has_checkpoints(Layout(root))  # whose weights count, whatever has become of the beginning
    program = build(
        plan, compilation.base, dtype=dtype, device=asked.device, seed=settings.seed, history=history, begin=not on
    )
    if asked.resume and known is not None:
        check_models({record.name: record.hash for record in known.models}, root, program)
    if asked.init_from is not None:
        _begin_with(asked.init_from, program)
    run = training.prepare(
        program,
        rows,
        eval_rows,
        settings,
        root,
        resume=asked.resume,
        force=asked.force,
        scorer=asked.scorer,
        trackers=asked.trackers,
        profile=asked.profile,
    )
    # Nothing on disk has been touched so far: what was refused above has changed nothing.
    main = run.processes.main
    around = nullcontext() if asked.around is None or not main else asked.around(run)
    with training.stoppable(run, asked.argument), around:
        if main:
            _write_down(root, compilation, program, asked)
            training.describe(run, path, dtype, asked.resume)
        training.go(run)
        if main:
            if (trained := program.history.trained_by) is not None:
                before = known.training if on and known is not None else None
                starts = before.starts if before is not None else trained.starts  # with what was read then
                trained = dataclasses.replace(trained, data=data.absolute, set=compilation.set, starts=starts)
                program.note(dataclasses.replace(program.history, trained_by=trained))
            program.save(root, force=True)  # what was there before has been resumed or given up above
            say(f"trained -> {root}")


def _missing(compilation: Compilation, data: RowSource, named: Mapping[str, str]) -> list[Diagnostic]:
    """E0604 for each column that the data lacks, where the graph names it."""
    assert compilation.graph is not None
    assert compilation.file is not None
    return missing_columns("E0604", compilation.graph, compilation.file, data, named=named)


def _check_earlier(root: Path, compilation: Compilation, known: Manifest | None, asked: Request) -> None:
    """E0513, E0610 or E0643 where an earlier run would be lost, or could not be gone on with."""
    ways = (
        f"put the graph back to go on; `--init-from {root} --force` begins with what fits of them, `--force` alone "
        "throws them away, and a copy of the file under another name is trained beside them"
    )
    check_overwrite(root, compilation, asked.force, ways=ways)
    layout = Layout(root)
    goes_on = has_checkpoints(layout)
    if asked.resume and not goes_on:
        if has_adapters(layout) or (known is not None and known.trained):
            raise fail(
                "E0643",
                f"`{root}` is trained, and has no checkpoint to go on from",
                hint=f"`--init-from {root} --force` trains on from its adapters, `--force` alone starts over",
            )
        if known is not None and known.init_from is not None:
            raise fail(
                "E0643",
                f"the run in `{root}` was stopped before its first checkpoint; it began with `{known.init_from}`",
                hint=f"`--init-from {known.init_from}` begins again",
            )
    if not (asked.resume or asked.force) and has_weights(layout, known):
        on = "go on with --resume" if goes_on else f"train on from its adapters with `--init-from {root} --force`"
        raise fail("E0610", f"`{root}` holds an earlier run", hint=f"{on}, or start over with --force")


def _tell(path: Path, root: Path, compilation: Compilation, known: Manifest | None, asked: Request) -> None:
    """Say what counts, or no longer does, though it was not said now."""
    kept = {} if known is None else {name: value for name, value in known.set if name not in asked.sets}
    tell_remembered(path, root, kept)
    report(training.remembered(compilation, path, asked.sets))
    if known is not None and known.init_from is not None and asked.init_from is None and not asked.resume:
        say(f"the run before began with {known.init_from}; this one begins with fresh adapters")


def _begin_with(artifact: Path, program: Program) -> None:
    taken = program.init_from(artifact)
    say(f"beginning with {artifact}: {', '.join(taken.taken)}")
    for name, why in taken.left.items():
        say(f"  {name} starts fresh: {why}")
    if taken.unused:
        say(f"  not used: {', '.join(taken.unused)}")


def _write_down(root: Path, compilation: Compilation, program: Program, asked: Request) -> None:
    """Bring the artifact up to date before training begins. Weights that it begins with stay until it has better
    ones."""
    own = asked.init_from is not None and asked.init_from.resolve() == root.resolve()
    written = write_artifact(
        root,
        compilation,
        models=program.model_records(),
        force=asked.force,
        anew=asked.force and not own,
        init_from=program.history.initialised_from,
    )
    report(written.warnings)
