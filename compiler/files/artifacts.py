"""Which folders are artifacts, and which artifact belongs to a source. What is in one: `compiler/artifact`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from masc.compiler.files.reading import read_json


def is_artifact(folder: Path) -> bool:
    """Whether a folder is an artifact. One called `x.masc` always is, even a damaged one. Another one is if its
    manifest was written by masc, or, if the manifest is damaged, its plan."""
    if folder.suffix == ".masc":
        return True
    manifest = folder / "manifest.json"
    if not manifest.is_file():
        return (folder / ".masc-install" / "manifest.json").is_file()  # the first install was interrupted
    body = _object(manifest) or {}
    if "format" in body and isinstance(body.get("fingerprint"), str) and isinstance(body.get("source"), str):
        return True
    plan = _object(folder / "plan.json") or {}
    return isinstance(plan.get("plan"), dict) and bool({"turns", "operations"} & plan["plan"].keys())


def _object(path: Path) -> dict[str, Any] | None:
    try:
        body = read_json(path)
    except (OSError, ValueError):
        return None
    return body if isinstance(body, dict) else None


def artifact_of(source: Path) -> Path:
    """The artifact of a source: `relay.masc` beside `relay.mas`. For the copy inside an artifact: that artifact."""
    return source.parent if is_artifact(source.parent) else source.with_suffix(".masc")
