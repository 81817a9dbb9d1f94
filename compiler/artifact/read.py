"""Reading an artifact while another process may write it. No lock is needed: files are checked against the manifest.

If the manifest was replaced meanwhile, everything is read again. So a reader gets the old state or the new one, never a
mix.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from masc.compiler.artifact.install import finish_install
from masc.compiler.artifact.layout import MANIFEST, PLAN, Layout, is_weights
from masc.compiler.artifact.manifest import Manifest, made_for, read_manifest, versions
from masc.compiler.files.reading import digest_of, read_regular
from masc.compiler.forms.plan_json import load_plan
from masc.compiler.ir.plan import Plan
from masc.compiler.pipeline import Compilation
from masc.dsl.diagnostics import Diagnostic, MascError, fail
from masc.dsl.regular import open_regular

_PATIENCE = 30.0  # seconds for which a reader tries to read while nobody writes
_MOMENT = 0.5  # seconds in which an install should be finished
_MOST_PLAN = 1 << 30  # bytes of the largest plan that is read

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


def read_consistently(root: Path, read: Callable[[], T]) -> T:
    """What `read` returns or raises (MascError), found while nobody wrote: if the manifest was replaced meanwhile, it
    is called again. E0642 if somebody writes all the time."""
    layout, deadline = Layout(root), time.monotonic() + _PATIENCE
    wait_for_install(layout)
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
            return found  # type: ignore[return-value]  # None only if `read` returns None
        wait_for_install(layout)
        before = _which(layout)
    raise fail("E0642", f"`{root}` is being written all the time", hint="try again when it is not")


def _which(layout: Layout) -> tuple[bool, int, int] | None:
    """Identifies the manifest that is valid now: every manifest is a new file. Moving it to its place changes nothing
    here."""
    try:
        about = os.stat(layout.at(MANIFEST))
    except OSError:
        return None
    return layout.pending.is_dir(), about.st_ino, about.st_mtime_ns


def wait_for_install(layout: Layout) -> None:
    """Wait until an install that has begun is finished. If its writer was killed, finish it, if we may write there."""
    from masc.compiler.artifact.lock import writing

    began = time.monotonic()
    while layout.pending.is_dir() and time.monotonic() < began + _PATIENCE:
        # A living writer is done in a moment, and a reader must not take the lock from it.
        if time.monotonic() < began + _MOMENT:
            time.sleep(0.01)
            continue
        if not os.access(layout.root, os.W_OK | os.X_OK):
            return
        try:
            with writing(layout.root):
                finish_install(layout)
        except MascError as error:
            if error.diagnostics[0].code != "E0641":
                return
            time.sleep(0.01)


def is_written(root: Path) -> bool:
    """Whether there is a manifest, damaged or not."""
    return Layout(root).at(MANIFEST).exists()


def read_artifact(root: Path) -> Artifact:
    """Read an artifact and check its plan against the manifest. Raises MascError (E0510 to E0512, E0514, E0642).

    Its `warnings` name libraries whose version has changed since it was trained.
    """
    return read_consistently(root, lambda: _read(root))


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


def read_weights(artifact: Artifact, *names: str) -> Mapping[str, bytes]:
    """The contents of an artifact's weight files, by path in the artifact; each is checked against its checksum. names:
    only these, as far as they are there (none: all).

    E0617 if a file is missing or has another content, E0642 if the artifact has been compiled again since it was read.
    """
    root = artifact.layout.root

    def read() -> dict[str, bytes]:
        manifest = read_manifest(artifact.layout)
        if manifest.fingerprint != artifact.manifest.fingerprint:
            raise fail("E0642", f"`{root}` was compiled anew while it was being loaded", hint="load it again")
        wanted = [(name, digest) for name, digest in manifest.files if is_weights(name)]
        return {n: _checked(artifact.layout, n, digest) for n, digest in wanted if not names or n in names}

    return read_consistently(root, read)


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


def check_files(folder: Path, manifest: Manifest, shown: str, hint: str) -> None:
    """Whether a folder holds every file that a manifest lists, with the content that it was written for. E0617 for one
    of weights, E0511 for another; both call the artifact what `shown` says."""
    for name, digest in manifest.files:
        code = "E0617" if is_weights(name) else "E0511"
        try:
            found = digest_of(folder / name)
        except OSError as error:
            raise fail(code, f"`{shown}` is damaged: `{name}`: {error.strerror or error}", hint=hint) from None
        if found != digest:
            message = f"`{shown}` is damaged: `{name}` is not the file that the manifest was written for"
            raise fail(code, message, hint=hint)


def base_of(artifact: Artifact) -> Path:
    """The folder that paths in an artifact's source are relative to: the folder from which it was compiled. If that is
    gone because the project was moved: the folder that is now in the same place relative to the artifact."""
    root, manifest = artifact.layout.root.absolute(), artifact.manifest
    candidates = [
        *([Path(manifest.base)] if manifest.base else []),
        *([Path(os.path.normpath(root / manifest.way))] if manifest.way else []),
    ]
    return next((folder for folder in candidates if folder.is_dir()), root.parent)


def state(root: Path, compilation: Compilation) -> Literal["missing", "fresh", "stale"]:
    """Whether there is an artifact, and whether it was made for this plan ("fresh"; `train` entries and decoding do not
    count). Raises MascError if it is damaged."""
    if not is_written(root):
        return "missing"
    return "fresh" if made_for(read_manifest(Layout(root)), compilation.require()) else "stale"
