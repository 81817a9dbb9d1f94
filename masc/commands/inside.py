"""Commands that look inside a team: inspect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from masc.commands.options import (
    Checkpoint,
    Device,
    Dtype,
    File,
    MaxTokens,
    Seed,
    Sets,
    Temperature,
    TopP,
    Weights,
    check_place,
    read_decoding,
    read_inputs,
    read_sets,
    require,
)
from masc.terminal.console import say
from masc.terminal.streams import print_content


def inspect(
    file: File = None,
    inputs: Annotated[
        list[str] | None, typer.Option("--input", metavar="NAME=TEXT", help="An input of the graph")
    ] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Also write it as a page, x.html")] = None,
    form: Annotated[bool, typer.Option("--json", help="Print all of it as JSON")] = False,
    layers: Annotated[
        str, typer.Option(metavar="N,...", help="Behind which layers latent positions are read: 0,12,last")
    ] = "last",
    top: Annotated[int, typer.Option(min=1, max=1000, help="How many words")] = 5,
    answer: Annotated[
        str | None, typer.Option(help="Told instead of said: how likely is it, and by which edges")
    ] = None,
    output: Annotated[str | None, typer.Option(help="Whose answer counts \\[default: the first]")] = None,
    text: Annotated[bool, typer.Option("--text/--no-text", help="Look at the same team in text, too")] = True,
    temperature: Temperature = None,
    top_p: TopP = None,
    max_tokens: MaxTokens = None,
    seed: Seed = None,
    set_: Sets = None,
    checkpoint: Checkpoint = None,
    weights: Weights = None,
    dtype: Dtype = None,
    device: Device = None,
) -> None:
    """Look inside a team that answers one input: its prompts, latent positions, attention, what each edge carried."""
    from masc.backends.torch.data.check import check_output, columns_of
    from masc.compiler.artifact import atomic_write, locate
    from masc.session import checks, outputs
    from masc.session import programs as session
    from masc.studies import inspecting, provenance
    from masc.studies.inspection_page import check_name, page

    row, chosen = read_inputs(inputs), _layers(layers)
    decoding = read_decoding(temperature, top_p, max_tokens, seed)
    check_place(dtype, device)
    sets = read_sets(set_)
    outputs.check_outputs({"-o": out}, locate(file, Path()), sets=sets)
    if out is not None:
        check_name(out)
    found = session.find(file, sets=sets, checkpoint=checkpoint, weights=weights, entries=())
    checks.check_inputs(row, found.plan.inputs, columns_of(found.plan, labels=False))
    if output is not None:
        check_output(found.plan, output)
    program = session.load_program(found, dtype=dtype, device=device)

    from masc.backends.torch.probing.inspect import inspect as run
    from masc.backends.torch.probing.inspection import text as described

    inspection = run(program, row, layers=chosen, top=top, answer=answer, output=output, text=text, decoding=decoding)
    if out is not None:  # before anything is printed: what cannot be printed is not lost
        atomic_write(out, page(inspection))
    if form:
        about = provenance.of(found, program, data={"inputs": row}, batch=1)
        print_content(json.dumps(inspecting.to_json(inspection, about), indent=1, ensure_ascii=False) + "\n")
    else:
        print_content(described(inspection))
    if out is not None:
        say(f"-> {out}")


def _layers(text: str) -> list[int | str]:
    """`0,12,last`."""
    found: list[int | str] = []
    for part in (part.strip() for part in text.split(",")):
        if part != "last" and not (part.isascii() and part.isdigit() and len(part) < 7):
            require(f"`{part}` is no layer: they are numbers from 0 on, and `last`", "--layers")
        found.append(part if part == "last" else int(part))
    return found
