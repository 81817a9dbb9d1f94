"""Where files are in an artifact, and which names in it belong to masc."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

MANIFEST, PLAN, CHANNELS, METRICS = "manifest.json", "plan.json", "channels.safetensors", "metrics.jsonl"
PROFILE = "profile.json.gz"
ADAPTERS, CHECKPOINTS = "adapters", "checkpoints"
ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors")
LOCK, HOLDER, PENDING, STAGED = ".lock", ".lock.json", ".masc-install", ".masc-staged-"
RESERVED = frozenset({MANIFEST, PLAN, CHANNELS, METRICS, PROFILE, ADAPTERS, CHECKPOINTS, LOCK, HOLDER, PENDING})
"""A copied source may not have a path that begins with one of these, in upper or lower case: some file systems do not
tell them apart."""
_LEFT = re.compile(r"\.masc-staged-\d+|\.tmp-weights-(old-)?\d+")
"""What a killed writer leaves in the folder: its staging folder, or that of an earlier version of masc."""
_TEMPORARY = re.compile(r"\.(?P<name>.+)\.[a-z0-9_]{8}\.tmp")
"""What a writer leaves that was killed while it wrote a single file: see `replacing` in `writing.py`."""


@dataclass(frozen=True)
class Layout:
    """The paths of an artifact's files."""

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
        """Holds new files that are valid already and are being moved to their places (see `install.py`)."""
        return self.root / PENDING

    def at(self, name: str) -> Path:
        """Where to read a file of the artifact. A file that is being installed comes before the old one."""
        waiting = self.pending / name
        return waiting if waiting.is_file() else self.root / name


def is_weights(name: str) -> bool:
    """Whether a path in an artifact holds trained weights."""
    return name == CHANNELS or name.startswith(f"{ADAPTERS}/")


def is_inside(name: str) -> bool:
    """Whether a path that was read from a file, such as a manifest, stays inside the artifact."""
    path = PurePosixPath(name)
    plain = bool(name) and path.as_posix() == name and "\\" not in name and ":" not in name and "\0" not in name
    return plain and not path.is_absolute() and ".." not in path.parts and name != "."


def is_checkpoint(path: Path) -> bool:
    """Whether a folder in `checkpoints/` was made by training, finished or not."""
    stem, _, number = path.name.partition("-")
    return stem in ("step", ".tmp") and number.isascii() and number.isdigit() and path.is_dir()


def leftovers(root: Path) -> Iterator[Path]:
    """The files and folders that killed writers left in an artifact; only masc uses such names."""
    for path in root.iterdir():
        if _LEFT.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            yield path
        elif (found := _TEMPORARY.fullmatch(path.name)) and path.is_file():
            name = found["name"]
            if name in RESERVED or name == "metrics":
                yield path
