"""The Python interface. Each function is what the command of the same name calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from masc.compiler.ir.plan import Mode
from masc.dsl.diagnostics import MascError
from masc.session.given import (
    Cuts,
    Path_,
    compilation_at,
    edges_of,
    file_at,
    findings_at,
    graph_at,
    path_of,
    step_of,
    text_of,
    texts_of,
)
from masc.terminal.console import counting
from masc.terminal.findings import Findings

if TYPE_CHECKING:
    from masc.backends.diagram import Drawing
    from masc.backends.scoring.registry import Function
    from masc.backends.torch.data.values import Row
    from masc.backends.torch.evaluation.report import Report
    from masc.backends.torch.probing.found import Audit
    from masc.backends.torch.probing.inspection import Inspection
    from masc.backends.torch.program import Program
    from masc.backends.torch.training.grpo import Grpo
    from masc.backends.torch.training.log import TrainingLog
    from masc.compiler.analysis.decoding import Engine
    from masc.studies.comparison_plot import Drawn
    from masc.studies.comparison_report import Lines


def check(path: Path_, *, set: Mapping[str, Any] | None = None) -> Findings:
    """All that can be said about a file, or the one in a folder, without loading a model: a list of Diagnostics, which
    prints as the command tells it. An empty one: nothing at all to remark."""
    return Findings(findings_at(path, set))


def compile(
    path: Path_,
    *,
    set: Mapping[str, Any] | None = None,
    dtype: str = "float32",
    device: str | None = None,
    seed: int | None = None,
    cut: Cuts = (),
    channel: Mode = "graph",
) -> Program:
    """Compile a `.mas` or YAML file, or the one in a folder, to a differentiable `torch.nn.Module` with fresh adapters.

    set: params and train entries by name. dtype of the frozen bases: "float32", "bfloat16" (adapters are float32
    always). device: "cpu", "cuda", ... (None: a GPU if there is one). seed: of the adapters (None: the file's). cut:
    (sender, receiver) edges that carry nothing. channel: "text" lets every agent talk in text, as a baseline. Raises
    MascError with all diagnostics where the file is wrong.
    """
    from masc.backends.torch.build import build
    from masc.backends.torch.engine.history import History

    edges = edges_of(cut)
    compilation = compilation_at(path, set, edges, channel)
    if compilation.plan is None:
        raise MascError(compilation.diagnostics)
    history = History(compilation, altered=bool(edges) or channel != "graph")
    return build(compilation.plan, compilation.base, dtype=dtype, device=device, seed=seed, history=history)


def load(
    path: Path_,
    *,
    dtype: str = "float32",
    device: str | None = None,
    cut: Cuts = (),
    channel: Mode = "graph",
    set: Mapping[str, Any] | None = None,
    checkpoint: int | str | None = None,
    weights: Path_ | None = None,
) -> Program:
    """Load an artifact folder (`relay.masc`) with its trained weights. Hashes and versions are checked; MascError
    says what does not fit. The graph is the one that was compiled, whatever has become of the file since.

    set: params that are others than those of the artifact, where its weights fit all the same (`latents`). checkpoint:
    take the weights of this step's, or of the `"last"` one. weights: another artifact, whose weights are taken where
    they fit; `path` may then be a file that has changed since."""
    from masc.session.programs import open_program

    return open_program(
        Path(path),
        dtype=dtype,
        device=device,
        cut=edges_of(cut),
        channel=channel,
        sets=texts_of(set),
        checkpoint=step_of(checkpoint),
        weights=path_of(weights),
    )


def train(
    program: Program,
    rows: Sequence[Row],
    eval_rows: Sequence[Row] | None = None,
    *,
    directory: Path_ | None = None,
    resume: bool = False,
    force: bool = False,
    init_from: Path_ | None = None,
    listen: Callable[[dict[str, Any]], None] | None = None,
    evaluate: Callable[[Program], dict[str, Any]] | None = None,
    trackers: Sequence[str] = (),
    profile: int | None = None,
    reward: str | Function | Grpo | None = None,
    progress: bool | None = None,
    **settings: Any,
) -> TrainingLog:
    """Train a program in place, end to end; returns each step's metrics, a list of dicts. rows: an iterable of dicts, a
    data frame or a data set. settings: `train` entries (steps=500, rate=1e-4, ...) that differ from the file's.
    directory: keep `checkpoints/` and `metrics.jsonl` there; resume: go on from them; force: forget them. listen:
    called with each step's metrics. evaluate: called every `eval_every` steps and at the end, in place of the loss over
    eval_rows. trackers: accelerate's names. init_from: an artifact whose adapters are the beginning (see
    `Program.init_from`). profile: so many steps are profiled, after two to warm up; `profile.json.gz` in the directory,
    and a printed table. reward: train on it, by GRPO, instead of as the file says (`objective`): the name of a scorer,
    a function of (said, gold, row) that gives a number (rows then need no answers, and gold is empty where one has
    none), or what `masc.grpo` makes of one. progress: whether a bar is shown (None: in a notebook). What may surprise
    on going on is a Python warning."""
    from masc.backends.torch.training.grpo import Grpo
    from masc.backends.torch.training.log import TrainingLog
    from masc.backends.torch.training.train import train as run

    if init_from is not None and resume:
        raise ValueError("a run that is resumed has begun already: give either resume or init_from")
    if "objective" in settings:
        raise TypeError("train does not read 'objective': a reward is `reward`; without one the graph says what counts")
    with counting(progress, "train", settings.get("steps", program.plan.train.steps)) as counted:

        def note(metrics: dict[str, Any]) -> None:
            shown = "reward" if "reward" in metrics else "loss"
            counted(completed=metrics["step"], now=f"{shown} {metrics[shown]:.4f}")
            if listen is not None:
                listen(metrics)

        metrics = run(
            program,
            rows,
            eval_rows,
            directory=directory,
            resume=resume,
            force=force,
            init_from=init_from,
            listen=note,
            evaluate=evaluate,
            trackers=trackers,
            profile=profile,
            objective=reward if reward is None or isinstance(reward, Grpo) else Grpo(reward),
            **settings,
        )
    return TrainingLog(metrics)


def grpo(reward: str | Function, *, group: int = 8, clip: float = 0.2, kl: float = 0.02, updates: int = 1) -> Grpo:
    """How to train on a reward (docs/semantics.md, section 10.6). reward: the name of a scorer that runs no code, or a
    function of (said, gold, row) that gives a finite number. group: answers to each row, at least 2. clip: how far the
    ratio of a token's probability to what it was when it was sampled counts, beside 1. kl: the weight of the distance
    to the weights that training began with; 0: none. updates: steps of the optimiser on one batch of answers.
    ValueError out of range, E0611 no such scorer, E0661 a function that cannot score."""
    from masc.backends.torch.training.grpo import Grpo

    return Grpo(reward, group, clip, kl, updates)


def evaluate(
    program: Program,
    rows: Sequence[Row],
    scorer: str | Function = "exact",
    *,
    batch: int = 16,
    output: str | None = None,
    repeat: int = 1,
    temperature: float | None = None,
    top_p: float | None = None,
    max_tokens: int | None = None,
    seed: int | None = None,
    allow_code_execution: bool = False,
    sandbox: str = "auto",
    engine: Engine = "fast",
    tick: Callable[[int], None] | None = None,
    progress: bool | None = None,
) -> Report:
    """Decode and score rows: accuracy with its 95% interval, perplexities, tokens, time. scorer: the name of one
    (docs/scoring.md), or a function of (said, gold, row) that gives a bool or a share from 0 to 1. output: which one is
    scored (None: the first). repeat: sampled answers to each row, for avg@k, pass@k and the majority. sandbox: in
    which one the scorer `code` runs what the model wrote: auto, bwrap, docker, podman or none. temperature, top_p,
    max_tokens, seed: of the outputs, where they are not those of the graph. engine: `fast`, or
    `exact` as training computes. tick: called with the number of answers done since the last call. progress: whether a
    bar is shown (None: in a notebook)."""
    from masc.backends.torch.data.rows import rows_of
    from masc.backends.torch.evaluation.evaluate import evaluate as run
    from masc.compiler.analysis.decoding import Decoding

    rows = rows_of(rows, "rows")
    with counting(progress, "eval", len(rows) * repeat) as counted:

        def note(count: int) -> None:
            counted(advance=count)
            if tick is not None:
                tick(count)

        return run(
            program,
            rows,
            scorer,
            batch=batch,
            output=output,
            repeat=repeat,
            decoding=Decoding(temperature, top_p, max_tokens, seed),
            allow_code_execution=allow_code_execution,
            sandbox=sandbox,
            engine=engine,
            tick=note,
        )[0]


def compare(
    path: Path_,
    train_rows: Sequence[Row],
    test_rows: Sequence[Row],
    out: Path_,
    *,
    scorer: str | Function = "exact",
    rows: Sequence[str] | None = None,
    seeds: Sequence[int] = (0,),
    set: Mapping[str, Any] | None = None,
    sweep: Mapping[str, Sequence[Any]] | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    max_tokens: int | None = None,
    plot: Drawn = "accuracy",
    **options: Any,
) -> Lines:
    """Hold a team against single agents, text agents and its own ablations on the same rows, each trained with as many
    parameters, items and answer tokens; returns the table and writes it to the folder `out`, where runs that are done
    are not run again. rows: names out of `masc.studies.comparison_runs.ROWS`. sweep: values by param or train entry.
    temperature, top_p, max_tokens: of the outputs, where they are not those of the graph. plot: what is drawn,
    accuracies beside each other or against their `cost`. options: batch, samples
    (sampled answers for the agreement; 0: none), sampled, output, dtype, device, allow_code_execution, sandbox.
    """
    from masc.backends.torch.evaluation.evaluate import at_least_one
    from masc.compiler.analysis.decoding import Decoding
    from masc.studies import comparison, comparison_runs
    from masc.studies.comparison_report import Lines, lines_of, write_report
    from masc.studies.provenance import of_comparison

    comparison_runs.check_rows(rows or [])
    if plot not in ("accuracy", "cost"):
        raise ValueError(f"plot = {plot!r} is neither 'accuracy' nor 'cost'")
    for name in ("batch", "sampled"):
        at_least_one(name, options.get(name, 1))
    file = file_at(path)
    first = compilation_at(file, set)
    plan = first.require()
    output = options.pop("output", None) or plan.outputs[0]
    decoding = Decoding(temperature, top_p, max_tokens)
    task = comparison_runs.Task(train_rows, test_rows, scorer, output, decoding=decoding, **options)
    swept = {name: [text_of(value) for value in values] for name, values in (sweep or {}).items()}
    found = comparison.compare(file, Path(out), task, rows=rows, seeds=seeds, sets=texts_of(set), sweep=swept)
    lines = lines_of(found)
    about = of_comparison(file, first, task, seeds=seeds, sets=texts_of(set), sweep=swept)
    title = f"{plan.name}: {len(test_rows)} test rows"
    write_report(lines, Path(out), title, about, plot)
    return Lines(lines, title, plot)


def audit(
    path: Path_,
    rows: Sequence[Row],
    scorer: str | Function = "exact",
    *,
    batch: int = 16,
    watched: int = 16,
    output: str | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    max_tokens: int | None = None,
    seed: int | None = None,
    checkpoint: int | str | None = None,
    weights: Path_ | None = None,
    dtype: str = "float32",
    device: str | None = None,
    progress: bool | None = None,
) -> Audit:
    """What each edge of an artifact carries: what the answers lose when it is cut, brings another row's content, noise,
    or reaches some layers only; the attention on it and the gradient that crosses it, of the first `watched` rows.
    output: the one whose answers count (None: all together). temperature, top_p, max_tokens, seed: of the outputs,
    where they are not those of the graph. checkpoint, weights: as of `load`. progress: whether a bar is shown (None: in
    a notebook)."""
    from masc.compiler.analysis.decoding import Decoding
    from masc.session import programs as session
    from masc.studies import auditing

    found = session.find(Path(path), checkpoint=step_of(checkpoint), weights=path_of(weights))
    auditing.audited(found)
    program = session.load_program(found, dtype=dtype, device=device)
    how = Decoding(temperature, top_p, max_tokens, seed)
    options: dict[str, Any] = {"batch": batch, "watched": watched, "output": output, "decoding": how}
    with counting(progress, "audit", auditing.measurements(found, program)) as counted:
        return auditing.audit_of(
            found, program, rows, scorer, **options, tick=lambda what: counted(advance=1, now=what)
        )


def inspect(
    program: Program,
    row: Row,
    *,
    out: Path_ | None = None,
    layers: Sequence[int | str] = ("last",),
    top: int = 5,
    answer: str | None = None,
    output: str | None = None,
    text: bool = True,
    temperature: float | None = None,
    top_p: float | None = None,
    max_tokens: int | None = None,
    seed: int | None = None,
) -> Inspection:
    """Look inside a team that answers one row (docs/inspect.md): prompts token by token, the words that latent
    positions are near to, attention by agent and layer, what each edge carried. out: x.html, a page of it (E0603:
    another suffix). layers: behind which latent positions are read, numbers from 0 and `"last"`. top: how many words.
    answer: told instead of said. output: whose answer counts (None: the first). text: the same team in text is looked
    at, too. temperature, top_p, max_tokens, seed: of the outputs, where they are not those of the graph. ValueError for
    a program that was not compiled from a file, or whose edges are cut."""
    from masc.backends.torch.probing.inspect import inspect as run
    from masc.compiler.analysis.decoding import Decoding
    from masc.compiler.files.writing import atomic_write
    from masc.studies.inspection_page import check_name, page

    if out is not None:
        check_name(Path(out))
    how = Decoding(temperature, top_p, max_tokens, seed)
    found = run(program, row, layers=layers, top=top, answer=answer, output=output, text=text, decoding=how)
    if out is not None:
        atomic_write(Path(out), page(found))
    return found


def load_task(name: str, split: str | None = None) -> list[dict[str, Any]]:
    """The rows of a public data set (gsm8k, openbookqa, humaneval, ...), with the columns `question` and `answer`; they
    come through the package `datasets`. split: another than the one to evaluate on, such as "train"."""
    from masc.backends.torch.evaluation.tasks import load_task as run

    return run(name, split)


def read_rows(
    source: Path_, program: Program, *, columns: Mapping[str, str] | None = None, labels: bool = True
) -> list[dict[str, Any]]:
    """The rows of a file, a folder or a data set of the hub (docs/data.md), checked, as a program reads them: under the
    names of its graph. columns: what is called differently in the data, by the graph's names. labels: what supervises
    outputs must be there, too. MascError with all that is wrong."""
    from masc.compiler.files.sources import row_source
    from masc.session.columns import read, reading

    return read(row_source(source), reading(program.plan, columns, labels=labels))


def export(
    path: Path_,
    agent: str,
    out: Path_,
    *,
    merged: bool = False,
    checkpoint: int | str | None = None,
    dtype: str | None = None,
    device: str | None = None,
) -> None:
    """Write one agent of a trained artifact into a new folder: its adapter as PEFT loads it, or (merged) a plain
    transformers model with the adapter folded into its weights. dtype: of merged weights (None: as the base is stored).
    Alone it hears nothing of what other agents send it."""
    from masc.session.exports import export as run
    from masc.session.programs import find

    run(find(Path(path), checkpoint=step_of(checkpoint)), agent, Path(out), merged=merged, dtype=dtype, device=device)


def draw(
    path: Path_,
    out: Path_ | None = None,
    *,
    set: Mapping[str, Any] | None = None,
    audit: Path_ | Audit | None = None,
) -> Drawing:
    """Draw a graph; notebooks show what is returned. out: a file to draw it into; its suffix says how (svg, png, pdf,
    mmd, dot, txt, html). audit: an audit, or the file of one; edges are as thick as what they carry. path: of a trained
    artifact (its folder), how far gates are open is drawn. E0612 where `out` would be written over what is read, or
    into an artifact."""
    from masc.backends.diagram import Drawing
    from masc.backends.diagram import draw as run
    from masc.compiler.artifact import is_artifact, locate
    from masc.session.outputs import check_outputs
    from masc.session.programs import graph_of
    from masc.studies.auditing import weights_of

    source = locate(Path(path), Path()) if is_artifact(Path(path)) else Path(path)
    measured = Path(audit) if isinstance(audit, str) else audit
    if out is not None:
        read = {"audit": measured if isinstance(measured, Path) else None}
        check_outputs({"out": Path(out)}, source, read, texts_of(set))
    graph = graph_of(source, texts_of(set)) if is_artifact(Path(path)) else graph_at(source, set)
    drawing = Drawing(graph, None if measured is None else weights_of(measured))
    if out is not None:
        run(graph, Path(out), weights=drawing.weights)
    return drawing
