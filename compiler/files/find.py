"""Files: hashing a model's, and finding the one that an argument means. How they are written: `writing.py`."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import Any

from masc.compiler.files.reading import MOST_JSON, read_json
from masc.compiler.files.writing import atomic_write, check_file, check_folder
from masc.compiler.models.folder.headers import weight_files
from masc.compiler.models.folder.templates import FOLDER
from masc.dsl.diagnostics import MascError, did_you_mean, fail
from masc.dsl.limits import FILE
from masc.dsl.regular import MEND_LINK, dangling, open_regular, read_regular

__all__ = [
    "artifact_of",
    "atomic_write",
    "check_file",
    "check_folder",
    "is_artifact",
    "locate",
    "model_hash",
]

_YAML = (".yaml", ".yml")
_OF_A_MODEL = re.compile(
    r"(generation_|.*tokenizer.*)?config\.json|.*tokenizer.*\.json|.*\.index\.json|"
    r"(special_tokens_map|added_tokens|vocab|tekken|chat_template)\.json|(vocab|merges)\.txt|.*\.model|.*\.jinja"
)
"""What is read of a model's folder beside its weights."""


def model_hash(folder: Path) -> str:
    """A cheap and honest content hash of a model's folder.

    Over the bytes of its configs, its tokenizer's files and its chat templates, and of every file of weights its name,
    size and header (names, types and shapes of all tensors) with its first and last megabyte. Another model, another
    tokenizer or another conversion changes it; it costs milliseconds, where hashing gigabytes would cost as much as
    loading them. What no model is made of (notes, a README, the state of a trainer) changes nothing. OSError where a
    file cannot be read or is no regular one.
    """
    digest = hashlib.sha256()
    weights = set(weight_files(folder))
    for path in sorted(folder.iterdir()):
        if path.name in weights:
            size = path.stat().st_size
            digest.update(f"{path.name} {size}\n".encode())
            with open_regular(path) as file:
                header = file.read(8)
                digest.update(header + file.read(min(int.from_bytes(header, "little"), 1 << 26)))
                digest.update(file.read(1 << 20))
                file.seek(max(0, size - (1 << 20)))
                digest.update(file.read())
        elif _OF_A_MODEL.fullmatch(path.name) and path.exists():
            digest.update(f"{path.name}\n".encode() + read_regular(path, MOST_JSON))
    for path in sorted((folder / FOLDER).glob("*.jinja")):
        digest.update(f"{FOLDER}/{path.name}\n".encode() + read_regular(path, MOST_JSON))
    return digest.hexdigest()


def is_artifact(folder: Path) -> bool:
    """Whether a folder is an artifact, of whatever name. One called `x.masc` is meant to be one even where it is
    damaged; another is one if its manifest is masc's, or, where that is damaged, its plan."""
    if folder.suffix == ".masc":
        return True
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        return (folder / ".masc-install" / "manifest.json").is_file()  # the very first install was cut off
    body = _object(manifest) or {}
    if "format" in body and isinstance(body.get("fingerprint"), str) and isinstance(body.get("source"), str):
        return True
    plan = _object(folder / "plan.json") or {}
    return isinstance(plan.get("plan"), dict) and "operations" in plan["plan"]


def _object(path: Path) -> dict[str, Any] | None:
    try:
        body = read_json(path)
    except (OSError, ValueError):
        return None
    return body if isinstance(body, dict) else None


def artifact_of(source: Path) -> Path:
    """The artifact of a source: `relay.mas` -> `relay.masc` beside it; for the copy in an artifact, that artifact."""
    return source.parent if is_artifact(source.parent) else source.with_suffix(".masc")


def locate(argument: Path | None = None, cwd: Path | None = None) -> Path:
    """The source that an argument means: a file, a folder with one `.mas` (or one YAML file), an artifact (its copy of
    the source), or nothing: what is in the working directory. Raises MascError (E0515, E0516, or what an artifact
    gives)."""
    from masc.compiler.artifact import Layout, read_manifest, training_told

    here = (cwd or Path.cwd()) / (argument or "")
    shown = argument if argument is not None else here
    if why := dangling(here):
        raise fail("E0515", f"`{shown}` cannot be read: {why}", hint=MEND_LINK)
    if here.is_file() or (os.path.lexists(here) and not here.is_dir()):
        return here  # what is no regular file is refused where it is read, which knows what it is
    if not here.is_dir():
        raise fail("E0515", f"there is no file or folder `{shown}`", hint=_near(here))
    found = _sources(here)
    if is_artifact(here):
        try:
            source = here / read_manifest(Layout(here)).source
        except MascError:
            # The copy can be compiled again even where the manifest is damaged; whoever needs that one will complain.
            if len(found) == 1 and (here / "manifest.json").exists():
                return found[0]
            raise
        if not source.is_file():
            raise fail("E0511", f"`{shown}` is damaged: `{source.name}` is missing", hint="compile the program again")
        return source
    if not found and (told := training_told(here)):
        raise fail("E0515", told[0], hint=told[1])
    if not found:
        raise fail("E0515", f"there is no .mas file in `{shown}`", hint="name a file, or a folder that holds one")
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise fail("E0516", f"`{shown}` holds several programs: {names}", hint="name the one that you mean")
    return found[0]


def _sources(folder: Path) -> list[Path]:
    """Its `.mas` files, else its YAML files; of several those with a graph, for the others can only be imported."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    found = [p for p in files if p.suffix == ".mas"] or [p for p in files if p.suffix in _YAML]
    return [p for p in found if _has_graph(p)] or found if len(found) > 1 else found


def _has_graph(path: Path) -> bool:
    try:
        return re.search(rb"^[ \t]*graph\b", read_regular(path, FILE), re.MULTILINE) is not None
    except OSError:
        return False


def _near(path: Path) -> str | None:
    try:
        names = [other.name for other in path.parent.iterdir() if other.suffix in (".mas", *_YAML, ".masc")]
    except OSError:
        return "name a .mas file, or a folder that holds one"
    return did_you_mean(path.name, names) or "name a .mas file, or a folder that holds one"
