"""What was found in a model folder is remembered in masc's cache, so that `check` looks at large files once.

It counts as long as no file of the folder has changed (names, sizes, times), nor the code that looks.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from masc.compiler.files.reading import read_json
from masc.compiler.models.facts import ModelFacts
from masc.compiler.models.folder.examine import Look, examine
from masc.compiler.models.folder.finding import Finding
from masc.compiler.models.folder.templates import FOLDER
from masc.dsl.cache import cache_folder

_MOST = 200
"""How many folders are remembered; the oldest are forgotten."""


def look_at(folder: Path, facts: ModelFacts) -> Look:
    """What `examine` finds, from the cache where nothing has changed since. A cache that cannot be read or written is
    done without."""
    state = _state(folder, facts)
    both = os.fsencode(folder.absolute()), os.fsencode(__file__)  # installs of masc do not forget for each other
    path = cache_folder() / "looks" / f"{hashlib.sha256(b'/'.join(both)).hexdigest()[:32]}.json"
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        known = read_json(path)
        if known["state"] == state:
            found = tuple(Finding(**each) for each in known["look"].pop("findings"))
            rest: dict[str, Any] = {
                name: tuple(one) if isinstance(one, list) else one for name, one in known["look"].items()
            }
            return Look(findings=found, **rest)
    seen = examine(folder, facts)
    with suppress(OSError):
        _write(path, json.dumps({"state": state, "look": asdict(seen)}))
    return seen


def _state(folder: Path, facts: ModelFacts) -> str:
    """A fingerprint of all that the look depends on."""
    here = Path(__file__).parent
    looked = [*_files(folder), *_files(folder / FOLDER), *_files(here), *_files(here.parent)]
    return hashlib.sha256(repr((facts, looked)).encode("utf-8", "surrogatepass")).hexdigest()


def _files(folder: Path) -> Iterator[tuple[object, ...]]:
    """Name, size and times of each file, as links lead to it."""
    with suppress(OSError):
        for path in sorted(folder.iterdir()):
            with suppress(OSError):
                about = path.stat()
                yield path.name, about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    remembered = sorted(path.parent.glob("*.json"), key=lambda each: each.stat().st_mtime)
    for old in remembered[:-_MOST]:
        old.unlink(missing_ok=True)
