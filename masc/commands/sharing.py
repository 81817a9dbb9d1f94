"""Commands that share a team: push, pull."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from masc.terminal.console import say

Checkpoints = Annotated[bool, typer.Option("--checkpoints", help="With the checkpoints of training")]


def push(
    artifact: Annotated[Path, typer.Argument(help="The artifact, or its source")],
    repository: Annotated[str, typer.Argument(metavar="USER/NAME", help="On the Hugging Face hub; made if need be")],
    private: Annotated[bool, typer.Option("--private", help="Only into a private repository")] = False,
    revision: Annotated[str | None, typer.Option(help="Which branch; made if need be \\[default: main]")] = None,
    message: Annotated[str | None, typer.Option(help="Of the commit")] = None,
    checkpoints: Checkpoints = False,
) -> None:
    """Put a team on the Hugging Face hub, with a model card, in one commit."""
    from masc.session.hub import push as run

    say(f"{artifact} -> {run(artifact, repository, private, revision, message, checkpoints)}")


def pull(
    repository: Annotated[str, typer.Argument(metavar="USER/NAME\\[@REVISION]", help="On the Hugging Face hub")],
    folder: Annotated[Path | None, typer.Argument(help="The new folder \\[default: NAME.masc]")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an artifact that is there")] = False,
    checkpoints: Checkpoints = False,
) -> None:
    """Fetch a team from the Hugging Face hub, and check every file of it."""
    from masc.session.hub import pull as run
    from masc.terminal.console import report

    name, _, revision = repository.partition("@")
    found, commit = run(name, revision or None, folder, force, checkpoints)
    report(found.warnings)
    say(f"{name}@{commit[:12]} -> {found.layout.root}")
