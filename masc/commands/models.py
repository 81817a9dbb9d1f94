"""Commands about base models with a short name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from masc.dsl.diagnostics import MascError, errors


def models_list() -> None:
    """The short names, and which of them are on disk."""
    from masc.compiler.models.locate import locate_model
    from masc.compiler.models.registry import REGISTRY

    for name, entry in REGISTRY.items():
        location = locate_model(name, Path.cwd())
        where = "not fetched" if location is None or location.folder is None else str(location.folder)
        print(f"{name}  {entry.licence}  {where}")


def models_fetch(name: Annotated[str, typer.Argument(help="A short name or a Hugging Face id")]) -> None:
    """Fetch a model, check it, convert it once."""
    from masc.backends.torch.model.fetch import resolve
    from masc.compiler.models.locate import check_model

    folder = resolve(name, Path.cwd())
    if wrong := errors(check_model(name, Path.cwd())[1]):
        raise MascError(wrong)
    print(folder)
