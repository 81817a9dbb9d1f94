"""What has become of a program: what an artifact remembers beside the weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from masc.compiler.artifact import Training
from masc.compiler.pipeline import Compilation


@dataclass(frozen=True)
class History:
    """Where a program and its weights come from.

    compilation: where the plan came from; without it there is nothing to save. altered: the plan is not quite its
    file's: edges are cut, or all of them are text. loaded_from: the artifact whose weights these are. trained_by: how
    they were trained. initialised_from: the artifact that training began with. starts: by agent the trained adapter
    that its own began with, and the sha256 of its weights.
    """

    compilation: Compilation | None = None
    altered: bool = False
    loaded_from: Path | None = None
    trained_by: Training | None = None
    initialised_from: str | None = None
    starts: tuple[tuple[str, str], ...] = ()


NEW = History()
"""Of a program that was made of a plan alone."""
