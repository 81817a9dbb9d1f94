"""What commands share: compiling, finding the artifact of a file and bringing it up to date, loading its program."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from masc.compiler.analysis.decoding import AS_WRITTEN, Decoding, Engine
from masc.compiler.artifact import (
    Artifact,
    Layout,
    artifact_of,
    base_of,
    gates_of,
    has_weights,
    is_artifact,
    is_written,
    locate,
    read_artifact,
    read_consistently,
    read_weights,
    state,
    with_gates,
    write_artifact,
    writing,
)
from masc.compiler.files.sources import RowSource, row_source
from masc.compiler.forms.essence import fingerprint
from masc.compiler.ir.graph import Graph
from masc.compiler.ir.plan import Mode, Plan, TrainSettings
from masc.compiler.language.scorers import runs_code
from masc.compiler.pipeline import Compilation, Cut, compile_file
from masc.dsl.diagnostics import MascError, errors, fail
from masc.session.checks import explained
from masc.session.weights import (
    check_fit,
    check_models,
    checkpoint_of,
    fresh,
    load_checkpoint,
    read_checkpoint,
    unfinished,
)
from masc.terminal.console import bar, report, say

if TYPE_CHECKING:
    from masc.backends.torch.evaluation.answering import Answering
    from masc.backends.torch.evaluation.evaluate import Item
    from masc.backends.torch.evaluation.report import Report
    from masc.backends.torch.program import Program
    from masc.backends.torch.training.checkpoints import Checkpoint


def compile_source_of(path: Path, sets: Mapping[str, str], cut: Cut = (), channel: Mode = "graph") -> Compilation:
    """Compile a file. For the copy inside an artifact: with the `--set` that the artifact remembers, and with paths
    relative to the folder from which it was compiled."""
    if not is_artifact(path.parent) or not is_written(path.parent):
        return compile_file(path, sets, cut, channel=channel)
    artifact = read_artifact(path.parent)
    kept = dict(artifact.manifest.set)
    compilation = compile_file(path, {**kept, **sets}, cut, base_of(artifact), channel)
    return _explained(compilation, {name: value for name, value in kept.items() if name not in sets})


def compile_remembering(
    path: Path, root: Path, sets: Mapping[str, str], cut: Cut = (), channel: Mode = "graph"
) -> Compilation:
    """Compile a file with the `--set` that the artifact `root` remembers from its own compile."""
    if not is_written(root):
        return compile_source_of(path, sets, cut, channel)
    kept = dict(read_artifact(root).manifest.set)
    compilation = compile_source_of(path, {**kept, **sets}, cut, channel)
    return _explained(compilation, {name: value for name, value in kept.items() if name not in sets})


def _explained(compilation: Compilation, kept: Mapping[str, str]) -> Compilation:
    return dataclasses.replace(compilation, diagnostics=explained(compilation.diagnostics, kept))


def accepted(compilation: Compilation, settled: Collection[str] = ()) -> Compilation:
    """Print the warnings of a compilation and return it. MascError if it has errors. settled: codes of warnings that an
    option of the command has an answer to."""
    compilation.require()
    report([found for found in compilation.diagnostics if found.code not in settled])
    return compilation


def graph_of(path: Path, sets: Mapping[str, str]) -> Graph:
    """The graph that is drawn of a file. Of the copy in a trained artifact with how far its gates are open. MascError
    on errors."""
    compilation = compile_source_of(path, sets)
    if compilation.graph is None or errors(compilation.diagnostics):
        raise MascError(compilation.diagnostics)
    graph = compilation.graph
    if not any(edge.gated for edge in graph.edges) or not is_artifact(path.parent) or not is_written(path.parent):
        return graph
    return with_gates(graph, gates_of(read_artifact(path.parent)))


def emit(path: Path, sets: Mapping[str, str], level: str) -> str:
    """A level of the compilation as text: ast, graph or plan."""
    from masc.compiler.forms.graph_text import print_graph
    from masc.compiler.forms.plan_text import print_plan
    from masc.dsl.dump import dump
    from masc.dsl.read import read

    if level == "ast":
        tree, diagnostics, _ = read(path)
        if tree is None or errors(diagnostics):
            raise MascError(diagnostics)
        return dump(tree).rstrip("\n")
    compilation = accepted(compile_source_of(path, sets))
    assert compilation.graph is not None
    return (print_graph(compilation.graph) if level == "graph" else print_plan(compilation.require())).rstrip("\n")


def compile_to(path: Path, out: Path | None, sets: Mapping[str, str], force: bool) -> tuple[Path, Compilation]:
    """Write (or bring up to date) an artifact; returns its folder, and what is in it. What `--set` said before is
    forgotten, and a damaged manifest is no obstacle."""
    root = out or artifact_of(path)
    if root.resolve() == path.parent.resolve() and not is_artifact(root):
        raise fail("E0612", f"`{root}` is the folder of `{path.name}` itself", hint="name another folder with -o")
    compilation = accepted(compile_file(path, sets, base=_recorded_base(path.parent)))
    report(write_artifact(root, compilation, force=force).warnings)
    return root, compilation


def _recorded_base(folder: Path) -> Path | None:
    try:
        return base_of(read_artifact(folder)) if is_artifact(folder) else None
    except MascError:
        return None


# -- running ----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Found:
    """The program that an argument names, compiled and up to date; no model is loaded yet. path: the source; artifact:
    its weights are used; checkpoint: the folder of the checkpoint whose weights are used instead; altered: the plan
    that runs is not the artifact's own."""

    path: Path
    compilation: Compilation
    artifact: Artifact
    cut: Cut = ()
    channel: Mode = "graph"
    checkpoint: Path | None = None
    altered: bool = False

    @property
    def plan(self) -> Plan:
        return self.compilation.require()


def find(
    argument: Path | None,
    cut: Cut = (),
    channel: Mode = "graph",
    sets: Mapping[str, str] | None = None,
    checkpoint: str | None = None,
    weights: Path | None = None,
    entries: tuple[str, ...] = ("eval_data",),
) -> Found:
    """The program of a file or folder, with its artifact. A missing artifact is compiled, a stale one is an error.

    sets: params with other values than in the artifact, which is not changed. checkpoint: `last`, or the step of the
    checkpoint to use. weights: another artifact whose weights are used. entries: train entries that the caller uses.
    Errors: E0671 the weights do not fit the plan, or there are none; E0673 a setting in `sets` has no effect here;
    E0674 there is no such checkpoint.
    """
    path, sets = locate(argument, Path()), sets or {}
    root = artifact_of(path if weights is None else locate(weights, Path()))
    found = read_consistently(root, lambda: _find(path, root, cut, channel, sets, checkpoint, weights, entries))
    report(found.artifact.warnings)
    remembered = dict(found.artifact.manifest.set)
    tell_remembered(path, root, {name: value for name, value in remembered.items() if name not in sets})
    return found


def _find(
    path: Path,
    root: Path,
    cut: Cut,
    channel: Mode,
    sets: Mapping[str, str],
    checkpoint: str | None,
    weights: Path | None,
    entries: tuple[str, ...],
) -> Found:
    compilation = kept = compile_remembering(path, root, {})
    if sets:
        compilation = compile_remembering(path, root, sets)
        _check_entries(root, sets, kept, compilation, entries)
    if weights is not None:
        if not is_written(root):
            raise fail("E0671", f"there is no artifact `{root}` to take weights of")
    else:
        kept.require()
        if not sets or compilation.plan is None or state(root, compilation) != "fresh":
            _bring_up_to_date(path, root, kept)
    artifact = read_artifact(root)
    if weights is not None and not (artifact.manifest.trained or checkpoint):
        raise fail("E0671", f"`{root}` holds no trained weights", hint=unfinished(artifact))
    altered = bool(cut or weights) or channel != "graph"
    chosen = None if checkpoint is None else checkpoint_of(artifact, checkpoint)
    if artifact.manifest.trained or chosen is not None:
        check_fit(artifact, compilation.require(), [f"{name}={value}" for name, value in sets.items()])
    if sets:
        altered |= fingerprint(compilation.require(), True) != fingerprint(artifact.plan, True)
    if cut or channel != "graph":
        compilation = compile_remembering(path, root, sets, cut, channel)
    compilation.require()
    return Found(path, compilation, artifact, cut, channel, chosen, altered)


def _check_entries(
    root: Path, sets: Mapping[str, str], kept: Compilation, now: Compilation, read: tuple[str, ...]
) -> None:
    """E0673 for a train entry in `sets`: it has no effect on a trained program. One that has the value of the training
    is accepted. kept, now: the compilation without `sets` and with them. read: entries that do have an effect."""
    names = {field.name for field in dataclasses.fields(TrainSettings)} - {*read}
    asked = [name for name in sets if name in names]
    if not asked:
        return
    before = read_artifact(root).plan if is_written(root) else kept.require()
    for name in asked:
        if now.plan is None or getattr(now.plan.train, name) != getattr(before.train, name):
            hint = "`--seed` decides what is sampled" if name == "seed" else "`masc train` takes it"
            raise fail("E0673", f"`{name}` is a setting of training and changes nothing here", hint=hint)


def _bring_up_to_date(path: Path, root: Path, compilation: Compilation) -> None:
    """Compile a missing artifact. E0614 if the file has changed to another graph since."""
    if (found := state(root, compilation)) == "missing":
        _compile_missing(path, root, compilation)
    elif found == "stale":
        again = " ".join(["masc compile", *(f"--set {name}={value}" for name, value in compilation.set)])
        hint = f"`{again}` brings it up to date"
        if has_weights(Layout(root)):
            hint = (
                f"give `{root}` instead of the file, and what was trained runs as it was; `--weights {root}` runs the "
                f"changed file with its weights; `{again} --force` throws them away"
            )
        raise fail("E0614", f"`{path}` has changed since `{root}` was compiled", hint=hint)


def _compile_missing(path: Path, root: Path, compilation: Compilation) -> None:
    """Compile an artifact that is missing. Of two processes that start at once, the second waits for the first."""
    with writing(root, wait=60):
        if state(root, compilation) == "missing":
            report(write_artifact(root, compilation).warnings)
            say(f"compiled {path} -> {root}")


def tell_remembered(path: Path, root: Path, sets: Mapping[str, str]) -> None:
    """Say which params are remembered from `masc compile --set`, since they are neither in the file nor on the command
    line. (The copy in an artifact needs no such note; train entries have W0605.)"""
    entries = {field.name for field in dataclasses.fields(TrainSettings)}
    said = " ".join(f"--set {name}={value}" for name, value in sets.items() if name not in entries)
    if said and path.parent.resolve() != root.resolve():
        say(f"using `{said}`, remembered from `masc compile`; `masc compile` without it forgets it")


def open_program(
    argument: Path | None,
    *,
    dtype: str,
    device: str | None,
    cut: Cut = (),
    channel: Mode = "graph",
    sets: Mapping[str, str] | None = None,
    checkpoint: str | None = None,
    weights: Path | None = None,
) -> Program:
    """The program of a file or artifact, with its trained weights if it has any. Arguments as of `find`."""
    return load_program(find(argument, cut, channel, sets, checkpoint, weights), dtype=dtype, device=device)


def trained_of(found: Found) -> Mapping[str, bytes] | Checkpoint | None:
    """The trained weights that a program is to have, read: the artifact's files, or a checkpoint. None: there are none.
    Errors of `read_weights`, and E0608."""
    if found.checkpoint is not None:
        return read_checkpoint(found.checkpoint)
    return read_weights(found.artifact) if found.artifact.manifest.trained else None


def load_program(
    found: Found,
    *,
    dtype: str | None,
    device: str | None,
    trained: Mapping[str, bytes] | Checkpoint | None = None,
) -> Program:
    """The program with its trained weights. E0615 if they were trained on another base model. dtype None: the fastest
    one on this machine. trained: what `trained_of` gave where it read them (None: read now)."""
    from masc.backends.torch.build import build, fast_dtype
    from masc.backends.torch.engine.history import History
    from masc.backends.torch.training.checkpoints import Checkpoint

    compilation, artifact = found.compilation, found.artifact
    trained = trained_of(found) if trained is None else trained
    dtype = dtype or fast_dtype(device)
    history = History(compilation, altered=found.altered)
    program = build(
        found.plan,
        compilation.base,
        dtype=dtype,
        device=device,
        seed=artifact.manifest.seed,
        history=history,
        begin=trained is None,
    )
    if isinstance(trained, Checkpoint):
        load_checkpoint(trained, program)
    elif trained is not None:
        check_models({record.name: record.hash for record in artifact.manifest.models}, artifact.layout.root, program)
        program.load_weights(trained)
        root = artifact.layout.root.resolve()
        program.note(dataclasses.replace(history, loaded_from=root, trained_by=artifact.manifest.training))
    elif program.trainable():
        say(f"not trained yet: {fresh(program)}" + (f"; {told}" if (told := unfinished(artifact)) else ""))
    return program


def eval_rows_of(
    found: Found,
    data: str | None,
    scorer: str,
    output: str | None,
    task: str | None = None,
    named: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """The rows to score, checked, as the graph reads them: a file's, or those of a task. named: what columns of the
    graph are called there. E0611 where the output does not exist, E0672 for a name that is never read."""
    from masc.backends.torch.data.check import check_columns, check_output
    from masc.backends.torch.evaluation.tasks import load_task, published
    from masc.session.columns import read_both, reading

    plan = found.plan
    if output is not None:
        check_output(plan, output)
    labels = not runs_code(scorer)
    source = eval_source(found, data, task)
    if task is None:
        assert source is not None
        return read_both(source, reading(plan, named, labels=labels, texts=False))[1]
    # A task calls its columns by names of its own, whatever the data of training has.
    asked = reading(dataclasses.replace(plan, columns=()), named, labels=labels, texts=False)
    if source is not None:
        return read_both(source, asked, published(task))[1]
    rows = load_task(task)
    check_columns(rows, asked.columns, f"the task `{task}`")
    return [asked.of_graph(row) for row in rows]


def eval_source(found: Found, data: str | None, task: str | None = None) -> RowSource | None:
    """Where the rows to score are; None: they are a public data set's."""
    if task is not None:
        return None if data is None else row_source(data)
    return data_source(data, found.plan.train.eval_data, found.compilation.base, "eval_data")


def evaluate(
    program: Program | Answering,
    rows: list[dict[str, Any]],
    scorer: str,
    output: str | None,
    batch: int,
    allow_code_execution: bool,
    sandbox: str,
    repeat: int = 1,
    decoding: Decoding = AS_WRITTEN,
    engine: Engine = "fast",
) -> tuple[Report, list[Item]]:
    """Score a program (or programs on a cluster) on rows, with a progress bar."""
    from masc.backends.torch.evaluation.evaluate import evaluate as run

    with bar() as progress:
        task = progress.add_task("eval", total=len(rows) * repeat)
        return run(
            program,
            rows,
            scorer,
            batch=batch,
            output=output,
            repeat=repeat,
            decoding=decoding,
            allow_code_execution=allow_code_execution,
            sandbox=sandbox,
            engine=engine,
            tick=lambda count: progress.advance(task, count),
        )


def data_source(given: str | None, written: str | None, base: Path, entry: str) -> RowSource:
    """A path on the command line is relative to the working directory, one in the file to the file. E0601 where neither
    names rows."""
    if given is not None:
        return row_source(given)
    if written is None:
        raise fail(
            "E0601", "no data was named", hint=f'give --data FILE, or write `{entry} "FILE"` in the `train` block'
        )
    return row_source(written, base)
