"""What a team costs before anything runs: cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from masc.commands.options import FORMATS, Columns, File, Sets, read_columns, read_sets, require
from masc.terminal.streams import print_content


def cost(
    file: File = None,
    data: Annotated[
        Path | None, typer.Option(help=f"Rows to take lengths of: {FORMATS} \\[default: the file's `data`]")
    ] = None,
    column: Columns = None,
    prompt: Annotated[
        int | None, typer.Option(min=0, help="Tokens of an input, instead of data \\[default: 128 where there is none]")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Rows together \\[default: 16 running, training as the file says]")
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="Of the frozen base: bfloat16 or float32 \\[default: the file's, else bfloat16]")
    ] = None,
    device: Annotated[
        str | None, typer.Option(metavar="NAME|SIZE", help="H100, RTX-4090, ... or a size: 24GB \\[default: a table]")
    ] = None,
    set_: Sets = None,
    form: Annotated[bool, typer.Option("--json", help="Print it as JSON")] = False,
) -> None:
    """Say what a team costs before it runs: positions, FLOPs, memory, and what it fits on."""
    from masc.compiler.artifact import locate
    from masc.compiler.cost.cards import CARDS, card_of
    from masc.session import checks, costing
    from masc.session.programs import accepted, compile_source_of
    from masc.terminal import costs

    named = read_columns(column)
    if dtype is not None:
        require(checks.dtype_problem(dtype), "--dtype")
    require(
        "not together with --data: that has lengths of its own" if prompt is not None and data else None, "--prompt"
    )
    card = None
    try:
        card = card_of(device) if device is not None else None
    except ValueError as error:
        require(str(error), "--device")
    path, sets = locate(file, Path()), read_sets(set_)
    compilation = accepted(compile_source_of(path, sets))
    rows, source = costing.rows_of(compilation, data, named) if prompt is None else ([], None)
    require("there is no data whose columns could have other names" if named and not rows else None, "--column")
    text = compile_source_of(path, sets, channel="text")
    asked = costing.PROMPT if prompt is None else prompt
    cards = tuple(CARDS.values()) if card is None else (card,)
    found = costing.cost(compilation, text, rows, source, asked, batch, dtype, cards)
    if form:
        print_content(json.dumps(costs.to_json(found), indent=2, ensure_ascii=False) + "\n")
    else:
        costs.show(found, card is not None)
