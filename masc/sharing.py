"""The Python interface to sharing: what the commands `masc push` and `masc pull` call."""

from __future__ import annotations

import warnings
from pathlib import Path


def push(
    path: str | Path,
    repository: str,
    *,
    private: bool = False,
    revision: str | None = None,
    message: str | None = None,
    checkpoints: bool = False,
) -> str:
    """Put an artifact on the Hugging Face hub (`USER/NAME`), with a model card, in one commit (docs/sharing.md); gives
    its address. revision: a branch, made if need be. checkpoints: with those of training. E0691 to E0693."""
    from masc.session.hub import push as run

    return run(Path(path), repository, private, revision, message, checkpoints)


def pull(
    repository: str,
    folder: str | Path | None = None,
    *,
    revision: str | None = None,
    force: bool = False,
    checkpoints: bool = False,
) -> Path:
    """Fetch an artifact from the Hugging Face hub into a new folder (None: `NAME.masc`), every file checked; gives the
    folder. revision: a branch or a commit. force: replace an artifact that is there. Surprises are Python warnings."""
    from masc.session.hub import pull as run

    found, _ = run(repository, revision, None if folder is None else Path(folder), force, checkpoints)
    for warning in found.warnings:
        warnings.warn(f"{warning.code}: {warning.message}", stacklevel=2)
    return found.layout.root
