"""The command that editors start: lsp."""

from __future__ import annotations

from typing import Annotated

import typer

from masc.dsl.diagnostics import fail


def lsp(
    stdio: Annotated[
        bool, typer.Option("--stdio", hidden=True, help="What some editors add; there is no other way")
    ] = True,
) -> None:
    """Serve an editor: diagnostics, hover, completion and more, on standard input and output."""
    try:
        import pygls  # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "pygls":
            raise
        message = "the language server needs the package `pygls`, which is not installed"
        raise fail("E0630", message, hint="pip install pygls, or in masc's folder: pip install '.[lsp]'") from None
    from masc.lsp.server import serve

    serve()
