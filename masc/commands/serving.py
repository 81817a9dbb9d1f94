"""The command that answers over HTTP: serve."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from masc.commands.options import Batch, Device, Dtype, check_place, require
from masc.dsl.diagnostics import fail


def serve(
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="ARTIFACT", help="Artifacts, files or folders \\[default: the one here]"),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0: every one of this machine")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one")] = 8000,
    batch: Batch = 16,
    queue: Annotated[int, typer.Option(min=0, help="Rows that may wait beside those; further ones are told so")] = 256,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds that a request may take, waiting included")] = 300,
    max_body: Annotated[int, typer.Option(min=1, help="Bytes of a request")] = 1 << 20,
    api_key_file: Annotated[
        Path | None, typer.Option(help="File with the key that clients must give \\[default: MASC_API_KEY, if set]")
    ] = None,
    log: Annotated[bool, typer.Option("--log", help="A line on standard error for each request")] = False,
    dtype: Dtype = None,
    device: Device = None,
) -> None:
    """Serve teams over HTTP, as OpenAI's clients call models. SIGTERM and Ctrl-C let running requests finish."""
    _check_installed()
    from masc.compiler.artifact import locate
    from masc.serving import listening
    from masc.serving.app import Limits, app_of
    from masc.serving.served import Served
    from masc.serving.server import MOST, ending_well, is_loopback, server
    from masc.session import programs as session
    from masc.terminal.console import say

    check_place(dtype, device)
    key = _key(api_key_file)
    paths = [locate(file, Path()) for file in files] if files else [locate(None, Path())]
    names = [path.stem for path in paths]
    if twice := [name for i, name in enumerate(names) if name in names[:i]]:
        raise typer.BadParameter(f"two of them are called `{twice[0]}`", param_hint="ARTIFACT")
    try:
        place = listening.bound(host, port, MOST)
    except OSError as error:
        raise typer.BadParameter(
            f"cannot listen there: {error.strerror or error}", param_hint="--host, --port"
        ) from None
    with place:
        found = [session.find(path) for path in paths]
        programs = [session.load_program(one, dtype=dtype, device=device) for one in found]
        models = [Served(name, program, batch, queue) for name, program in zip(names, programs, strict=True)]
        app = app_of(models, Limits(timeout, max_body), key, log)
        where = f"[{host}]" if ":" in host else host
        print(f"http://{where}:{place.getsockname()[1]}/v1", flush=True)
        if key is None and not is_loopback(host):
            say("whoever reaches this machine is answered: no API key is asked for")
        say(f"serving {', '.join(names)} there; Ctrl-C stops")
        with ending_well():
            server(app, place, timeout).run(sockets=[place])


def _key(file: Path | None) -> str | None:
    """The key that clients must give: of a file, or of the environment; never an argument, which all processes of the
    machine can read."""
    if file is None:
        return os.environ.get("MASC_API_KEY") or None
    from masc.dsl.regular import read_regular

    try:
        key = read_regular(file, 1 << 16).decode("utf-8").strip()
    except (OSError, ValueError) as error:
        told = getattr(error, "strerror", None) or error
        raise typer.BadParameter(f"cannot read `{file}`: {told}", param_hint="--api-key-file") from None
    require("there is no key in it" if not key.isascii() or not key else None, "--api-key-file")
    return key


def _check_installed() -> None:
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name not in ("fastapi", "prometheus_client"):
            raise
        message = f"serving needs the package `{error.name.replace('_', '-')}`, which is not installed"
        hint = "pip install fastapi prometheus-client, or in masc's folder: pip install '.[serve]'"
        raise fail("E0681", message, hint=hint) from None
