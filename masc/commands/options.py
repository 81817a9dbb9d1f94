"""Options that more than one command takes, and how their values are read."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from masc.backends.scoring.sandbox import SANDBOXES
from masc.compiler.analysis.decoding import Decoding, Engine
from masc.compiler.ir.plan import Mode

if TYPE_CHECKING:
    from masc.cluster.connect import Place

File = Annotated[
    Path | None,
    typer.Argument(help="A .mas or YAML file, a folder with one, or a .masc artifact \\[default: the one here]"),
]
Sets = Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Set a param or a train entry")]
Channel = Annotated[Mode, typer.Option(help="text: every agent talks in text, as a baseline")]
Cuts = Annotated[list[str] | None, typer.Option("--cut", metavar="SENDER:RECEIVER", help="Let this edge carry nothing")]
Device = Annotated[
    str | None,
    typer.Option(help="cpu, cuda, auto (one GPU, or as many as it takes), ... \\[default: a GPU if there is one]"),
]
Dtype = Annotated[
    str | None, typer.Option(help="Of the frozen base: bfloat16 or float32 \\[default: bfloat16 where that is fast]")
]
Columns = Annotated[
    list[str] | None,
    typer.Option("--column", metavar="NAME=COLUMN", help="Read what the graph calls NAME from this column of the data"),
]
FORMATS = "JSON lines, JSON, CSV, TSV, Parquet, a folder of these, OWNER/NAME:CONFIG/SPLIT of the hub"
Checkpoint = Annotated[
    str | None, typer.Option(metavar="last|STEP", help="Take the weights of a checkpoint, not those of the last run")
]
Weights = Annotated[Path | None, typer.Option(help="Take the weights of this artifact, where they fit the file")]
Tracker = Annotated[
    list[str] | None, typer.Option(help="Also log to tensorboard, trackio, wandb, ... (through accelerate)")
]
Temperature = Annotated[float | None, typer.Option(help="Of the outputs; 0: greedy \\[default: the graph's]")]
TopP = Annotated[float | None, typer.Option("--top-p", help="Of the outputs \\[default: the graph's]")]
MaxTokens = Annotated[int | None, typer.Option("--max-tokens", help="Of the outputs \\[default: the graph's]")]
Seed = Annotated[int | None, typer.Option(help="What is sampled is drawn from it \\[default: the graph's]")]
AllowCode = Annotated[
    bool, typer.Option("--allow-code-execution", help="Run what the model wrote, for the scorer code")
]
Sandbox = Annotated[str, typer.Option(help=f"In which sandbox it is run: {', '.join(SANDBOXES)}")]
Batch = Annotated[int, typer.Option(min=1, help="Rows decoded together")]
EngineOption = Annotated[Engine, typer.Option("--engine", help="fast, or exact: as training computes")]

Ray = Annotated[
    str | None,
    typer.Option(
        "--ray", metavar="ADDRESS", help="Work on a Ray cluster: local (made for this), auto (runs here), HOST:PORT"
    ),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="With --ray \\[default: one for each GPU, or for each machine]"),
]


def require(problem: str | None, option: str) -> None:
    """A wrong value of an option is wrong usage."""
    if problem is not None:
        raise typer.BadParameter(problem, param_hint=option)


def check_place(dtype: str | None, device: str | None, place: Place | None = None) -> None:
    """place: where it is computed, if not here."""
    from masc.session import checks

    if dtype is not None:
        require(checks.dtype_problem(dtype), "--dtype")
    if device is not None and place is None:
        require(checks.device_problem(device), "--device")


def read_place(address: str | None, workers: int | None) -> Place | None:
    """The cluster that does the work; None: this process does. E0682 where Ray is not installed."""
    from masc.cluster.connect import Place, address_problem, check_ray

    if address is None:
        require("it needs --ray ADDRESS" if workers is not None else None, "--workers")
        return None
    require(address_problem(address), "--ray")
    check_ray()
    return Place(address, workers)


def _once(name: str, given: Collection[str], option: str) -> None:
    """Of two values one would be lost."""
    require(f"`{name}` is given twice" if name in given else None, option)


def read_sets(items: list[str] | None) -> dict[str, str]:
    values: dict[str, str] = {}
    for item in items or []:
        name, equals, value = item.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"`{item}` is not NAME=VALUE", param_hint="--set")
        _once(name.strip(), values, "--set")
        values[name.strip()] = value.strip()
    return values


def read_cuts(items: list[str] | None) -> tuple[tuple[str, str], ...]:
    pairs = []
    for item in items or []:
        sender, colon, receiver = item.partition(":")
        if not (sender and colon and receiver):
            raise typer.BadParameter(f"`{item}` is not SENDER:RECEIVER", param_hint="--cut")
        pairs.append((sender.strip(), receiver.strip()))
    return tuple(pairs)


def read_inputs(items: list[str] | None) -> dict[str, str]:
    row: dict[str, str] = {}
    for item in items or []:
        name, equals, value = item.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"`{item}` is not NAME=TEXT", param_hint="--input")
        _once(name, row, "--input")
        row[name] = value
    return row


def read_columns(items: list[str] | None) -> dict[str, str]:
    """Name in the graph -> column of the data."""
    columns: dict[str, str] = {}
    for item in items or []:
        name, equals, column = item.partition("=")
        if not equals or not name.strip() or not column:
            raise typer.BadParameter(f"`{item}` is not NAME=COLUMN", param_hint="--column")
        _once(name.strip(), columns, "--column")
        columns[name.strip()] = column
    return columns


def read_decoding(temperature: float | None, top_p: float | None, max_tokens: int | None, seed: int | None) -> Decoding:
    try:
        return Decoding(temperature, top_p, max_tokens, seed)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
