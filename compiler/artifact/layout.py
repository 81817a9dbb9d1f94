"""Where things lie in an artifact, and which names in it are masc's own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

MANIFEST, PLAN, CHANNELS, METRICS = "manifest.json", "plan.json", "channels.safetensors", "metrics.jsonl"
ADAPTERS, CHECKPOINTS = "adapters", "checkpoints"
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
LOCK, HOLDER, PENDING, STAGED = ".lock", ".lock.json", ".masc-install", ".masc-staged-"
RESERVED = frozenset({MANIFEST, PLAN, CHANNELS, METRICS, ADAPTERS, CHECKPOINTS, LOCK, HOLDER, PENDING})
"""First parts of paths that a copied source may not have, in whatever case: some file systems know no difference."""
_LEFT = re.compile(r"\.masc-staged-\d+|\.tmp-weights-(old-)?\d+")
"""What a writer that was killed leaves in the folder: its own staging folder, or one of an earlier version."""
_TEMPORARY = re.compile(r"\.(?P<name>.+)\.[a-z0-9_]{8}\.tmp")
"""What one leaves that was killed while it wrote a single file: see `replacing` in `writing.py`."""


@dataclass(frozen=True)
class Layout:
    """Where things lie in an artifact."""

    root: Path

    @property
    def plan(self) -> Path:
        return self.root / PLAN

    @property
    def manifest(self) -> Path:
        return self.root / MANIFEST

    @property
    def adapters(self) -> Path:
        return self.root / ADAPTERS

    @property
    def channels(self) -> Path:
        return self.root / CHANNELS

    @property
    def checkpoints(self) -> Path:
        return self.root / CHECKPOINTS

    @property
    def metrics(self) -> Path:
        return self.root / METRICS

    @property
    def pending(self) -> Path:
        """New files that count already and are being moved to their places (see `install.py`)."""
        return self.root / PENDING

    def at(self, name: str) -> Path:
        """Where a file of the artifact is to be read: what is being installed counts before what was there."""
        waiting = self.pending / name
        return waiting if waiting.is_file() else self.root / name


def is_weights(name: str) -> bool:
    """Whether a path in an artifact is one of what training makes."""
    return name == CHANNELS or name.startswith(f"{ADAPTERS}/")


def is_inside(name: str) -> bool:
    """Whether a path from a file, such as a manifest, stays in the folder that it is taken from."""
    path = PurePosixPath(name)
    plain = bool(name) and path.as_posix() == name and "\\" not in name and ":" not in name and "\0" not in name
    return plain and not path.is_absolute() and ".." not in path.parts and name != "."


def is_checkpoint(path: Path) -> bool:
    """Whether a folder in `checkpoints/` is one that training made, or was making."""
    stem, _, number = path.name.partition("-")
    return stem in ("step", ".tmp") and number.isascii() and number.isdigit() and path.is_dir()


def leftovers(root: Path) -> Iterator[Path]:
    """What writers that were killed left in an artifact, under names of masc's alone."""
    for path in root.iterdir():
        if _LEFT.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            yield path
        elif (found := _TEMPORARY.fullmatch(path.name)) and path.is_file():
            name = found["name"]
            if name in RESERVED or name == "metrics":
                yield path
