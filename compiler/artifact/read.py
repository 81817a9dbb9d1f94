"""Reading an artifact while others may write it: no lock is needed, for what is read is held against the manifest.

Where a new manifest has come in between, all is read again: a reader gets the old state or the new one, never a mix.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from masc.compiler.artifact.install import settle_alone
from masc.compiler.artifact.layout import MANIFEST, PLAN, Layout, is_weights
from masc.compiler.artifact.manifest import Manifest, made_for, read_manifest, versions
from masc.compiler.files.reading import read_regular
from masc.compiler.forms.plan_json import load_plan
from masc.compiler.ir.plan import Plan
from masc.compiler.pipeline import Compilation
from masc.dsl.diagnostics import Diagnostic, MascError, fail
from masc.dsl.regular import open_regular

_PATIENCE = 30.0  # seconds for which a reader tries to find an artifact at rest
_MOMENT = 0.5  # seconds in which what is being installed should be in its place
_MOST_PLAN = 1 << 30  # bytes of a plan that is read

T = TypeVar("T")


@dataclass(frozen=True)
class Artifact:
    layout: Layout
    manifest: Manifest
    plan: Plan
    warnings: tuple[Diagnostic, ...] = field(default=(), compare=False)

    @property
    def source(self) -> Path:
        return self.layout.root / self.manifest.source


def steady(root: Path, read: Callable[[], T]) -> T:
    """What `read` finds in an artifact that nobody wrote meanwhile: it is called again where the manifest is another
    one afterwards, whether it found something or raised MascError. E0642 where the artifact never comes to rest."""
    layout, deadline = Layout(root), time.monotonic() + _PATIENCE
    settle(layout)
    before = _which(layout)
    while time.monotonic() < deadline:
        found: T | None = None
        error: MascError | None = None
        try:
            found = read()
        except MascError as caught:
            error = caught
        after = _which(layout)
        if after == before:
            if error is not None:
                raise error
            return found  # type: ignore[return-value]  # None only where `read` gives None
        settle(layout)
        before = _which(layout)
    raise fail("E0642", f"`{root}` is being written all the time", hint="try again when it is not")


def _which(layout: Layout) -> tuple[bool, int, int] | None:
    """Which manifest counts now: each one is a new file. Moving it to its place changes nothing."""
    try:
        about = os.stat(layout.at(MANIFEST))
    except OSError:
        return None
    return layout.pending.is_dir(), about.st_ino, about.st_mtime_ns


def settle(layout: Layout) -> None:
    """Wait until what is being installed is in its place. Where whoever did it was killed, do it, if we may write."""
    from masc.compiler.artifact.lock import writing

    began = time.monotonic()
    while layout.pending.is_dir() and time.monotonic() < began + _PATIENCE:
        # A writer that lives is done in a moment. Whoever only reads must not take the lock from under it.
        if time.monotonic() < began + _MOMENT:
            time.sleep(0.01)
            continue
        if not os.access(layout.root, os.W_OK | os.X_OK):
            return
        try:
            with writing(layout.root):
                settle_alone(layout)
        except MascError as error:
            if error.diagnostics[0].code != "E0641":
                return
            time.sleep(0.01)


def is_written(root: Path) -> bool:
    """Whether there is a manifest, sound or not."""
    return Layout(root).at(MANIFEST).exists()


def read_artifact(root: Path) -> Artifact:
    """An artifact, its plan held against the manifest. Raises MascError (E0510 to E0512, E0514, E0642).

    `warnings`: libraries whose version has changed since.
    """
    return steady(root, lambda: _read(root))


def _read(root: Path) -> Artifact:
    layout = Layout(root)
    manifest = read_manifest(layout)
    path = layout.at(PLAN)
    try:
        data = read_regular(path, _MOST_PLAN)
        plan = load_plan(data.decode("utf-8"), str(layout.plan))
    except (OSError, ValueError) as error:
        raise fail("E0511", f"cannot read `{path}`: {error}", hint="compile the program again") from None
    listed = dict(manifest.files).get(PLAN)
    if not made_for(manifest, plan) or listed != hashlib.sha256(data).hexdigest():
        message = f"`{layout.plan}` is not the plan that the manifest was written for"
        raise fail("E0514", message, hint="compile the program again")
    if {model.name for model in manifest.models} != {model.name for model in plan.models}:
        message = f"`{layout.manifest}` is damaged: `models` does not name those of the plan"
        raise fail("E0511", message, hint="compile the program again")
    now = dict(versions())
    warnings = tuple(
        Diagnostic("W0501", f"`{root}` was made with {name} {version}, and {now.get(name, 'none')} is installed")
        for name, version in manifest.versions
        if manifest.trained and now.get(name) != version
    )
    return Artifact(layout, manifest, plan, warnings)


def read_weights(artifact: Artifact) -> Mapping[str, bytes]:
    """The files of an artifact's weights by their path in it, each held against its checksum.

    E0617 where one is missing or another, E0642 where the artifact has been compiled anew since it was read.
    """
    root = artifact.layout.root

    def read() -> dict[str, bytes]:
        manifest = read_manifest(artifact.layout)
        if manifest.fingerprint != artifact.manifest.fingerprint:
            raise fail("E0642", f"`{root}` was compiled anew while it was being loaded", hint="load it again")
        return {name: _checked(artifact.layout, name, digest) for name, digest in manifest.files if is_weights(name)}

    return steady(root, read)


def _checked(layout: Layout, name: str, digest: str) -> bytes:
    hint = "`masc train --resume` writes them again from the last checkpoint; `masc train --force` starts over"
    try:
        with open_regular(layout.at(name)) as file:
            data = file.read()
    except OSError as error:
        message = f"cannot read `{layout.root / name}`: {error.strerror or error}"
        raise fail("E0617", message, hint=hint) from None
    if hashlib.sha256(data).hexdigest() != digest:
        message = f"the weights in `{layout.root}` are not those that its manifest was written for: `{name}` is another"
        raise fail("E0617", message, hint=hint)
    return data


def base_of(artifact: Artifact) -> Path:
    """The folder that paths in an artifact's source are relative to: where it was compiled, or, if that is gone because
    the project was moved, the same way from the artifact as then."""
    root, manifest = artifact.layout.root.absolute(), artifact.manifest
    candidates = [Path(manifest.base), *([Path(os.path.normpath(root / manifest.way))] if manifest.way else [])]
    return next((folder for folder in candidates if folder.is_dir()), root.parent)


def state(root: Path, compilation: Compilation) -> Literal["missing", "fresh", "stale"]:
    """Whether an artifact is there and made for this plan (`train` entries and decoding aside). Raises MascError if it
    is damaged."""
    if not is_written(root):
        return "missing"
    return "fresh" if made_for(read_manifest(Layout(root)), compilation.require()) else "stale"
