"""Commands that make a team: compile, train, prune, export."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masc.commands.options import (
    FORMATS,
    Checkpoint,
    Columns,
    Device,
    File,
    Sets,
    Tracker,
    check_place,
    read_columns,
    read_sets,
    require,
)
from masc.commands.valueless import STEPS
from masc.compiler.language.scorers import scorer_names
from masc.terminal.console import say
from masc.terminal.streams import print_content

if TYPE_CHECKING:
    from masc.serving.dashboard import Around


def compile_(
    file: File = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="The artifact folder \\[default: FILE.masc]")] = None,
    set_: Sets = None,
    emit: Annotated[str | None, typer.Option(help="Print ast, graph or plan instead of writing an artifact")] = None,
    force: Annotated[bool, typer.Option("--force", help="Throw trained weights of another plan away")] = False,
) -> None:
    """Compile a file to an artifact folder."""
    from masc.compiler.artifact import locate
    from masc.session import costing
    from masc.session import programs as session
    from masc.terminal import costs

    path = locate(file, Path())
    if emit is not None:
        if emit not in {"ast", "graph", "plan"}:
            raise typer.BadParameter(f"unknown level `{emit}`: ast, graph or plan", param_hint="--emit")
        print_content(session.emit(path, read_sets(set_), emit) + "\n")
        return
    folder, compilation = session.compile_to(path, out, read_sets(set_), force)
    say(f"{path} -> {folder}")
    if (cost := costing.brief(compilation)) is not None:
        say(f"with inputs of {costing.PROMPT} tokens, {costs.line(cost)}")


def train(
    file: File = None,
    data: Annotated[
        str | None, typer.Option(help=f"Rows to train on: {FORMATS} \\[default: the file's `data`]")
    ] = None,
    eval_data: Annotated[str | None, typer.Option(help=f"Rows for evaluation during training: {FORMATS}")] = None,
    column: Columns = None,
    set_: Sets = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the newest checkpoint")] = False,
    force: Annotated[bool, typer.Option("--force", help="Throw earlier weights and checkpoints away")] = False,
    init_from: Annotated[
        Path | None, typer.Option("--init-from", metavar="ARTIFACT", help="Begin with another artifact's adapters")
    ] = None,
    scorer: Annotated[str, typer.Option(help=f"For evaluation during training: {scorer_names(code=False)}")] = "exact",
    tracker: Tracker = None,
    profile: Annotated[
        int | None,
        typer.Option("--profile", min=1, metavar="\\[N]", help=f"Profile N steps ({STEPS} if no number follows)"),
    ] = None,
    dashboard: Annotated[
        bool, typer.Option("--dashboard", help="Serve a page on this machine that shows it as it runs")
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the page; 0: a free one")] = 0,
    device: Device = None,
) -> None:
    """Train every agent's adapter end to end."""
    from masc.compiler.artifact import is_other_rank
    from masc.session import checks
    from masc.training.command import Request
    from masc.training.command import train as run

    require("it and --force exclude each other" if resume and force else None, "--resume")
    require("it and --resume exclude each other" if resume and init_from else None, "--init-from")
    require(checks.scorer_problem(scorer, code=False), "--scorer")
    for name in tracker or []:
        require(checks.tracker_problem(name), "--tracker")
    require("only with --dashboard" if port and not dashboard else None, "--port")
    check_place(None, device)
    asked = Request(
        file,
        sets=read_sets(set_),
        data=data,
        eval_data=eval_data,
        columns=read_columns(column),
        resume=resume,
        force=force,
        init_from=init_from,
        scorer=scorer,
        trackers=tuple(tracker or ()),
        profile=profile,
        device=device,
    )
    with _page(port) if dashboard and not is_other_rank() else nullcontext() as around:
        run(replace(asked, around=around))


@contextmanager
def _page(port: int) -> Iterator[Around]:
    """A page from now on, on a port that is held; and what shows a run there."""
    from masc.serving import board, listening
    from masc.serving.dashboard import dashboard

    try:
        place = listening.bound(listening.LOOPBACK, port, board.MOST)
    except OSError as error:
        raise typer.BadParameter(f"cannot listen there: {error.strerror or error}", param_hint="--port") from None
    with place, dashboard(place) as around:
        say(f"the training is shown at http://{listening.LOOPBACK}:{place.getsockname()[1]}/")
        yield around


def export(
    file: File = None,
    agent: Annotated[str, typer.Option(help="Which agent")] = "",
    merged: Annotated[
        bool, typer.Option("--merged", help="A plain transformers folder, the adapter folded into the weights")
    ] = False,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="The new folder \\[default: AGENT]")] = None,
    checkpoint: Checkpoint = None,
    dtype: Annotated[str | None, typer.Option(help="Of merged weights \\[default: as the base is stored]")] = None,
    device: Device = None,
) -> None:
    """Write one agent as a folder that transformers, PEFT, vLLM and llama.cpp's converter load."""
    from masc.session import exports
    from masc.session import programs as session

    require("say which agent" if not agent else None, "--agent")
    require("it is of merged weights: give --merged too" if dtype is not None and not merged else None, "--dtype")
    check_place(dtype, device)
    found = session.find(file, checkpoint=checkpoint)
    exports.export(found, agent, out or Path(agent), merged=merged, dtype=dtype, device=device)


def prune(
    file: File = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="The new source, x.mas; the artifact x.masc goes beside it")
    ] = None,
    below: Annotated[float, typer.Option(min=0, max=1, help="Gates that are open less far are closed")] = 0.05,
) -> None:
    """Write a trained team without the edges that training has closed (`gate = learned`)."""
    from masc.session.pruning import prune as run
    from masc.terminal.console import report

    done = run(file, out, below)
    report(done.warnings)
    for name, value in done.closed.items():
        say(f"closed: {name}, {value:.2g}")
    for name, value in done.kept.items():
        say(f"kept: {name}, {value:.2g}")
    for agent in done.left_out:
        say(f"left out: {agent}, which leads to no output any more")
    if done.moved:
        what = ", ".join(done.moved)
        say(f"start elsewhere than before, where what is gone was the longest: {what}")
    say(f"{done.source}, {done.artifact}")
