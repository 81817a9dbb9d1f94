"""The artifact: `relay.mas` compiles to `relay.masc/`, a folder that holds all but the base model's weights.

    relay.mas          a copy of the source
    plan.json          the plan
    manifest.json      format, versions, models with content hashes, what `--set` said, whether it is trained
    adapters/<agent>/  PEFT's own format            } written by the backend
    channels.safetensors, checkpoints/, metrics.jsonl }

The manifest is written last: a folder without a readable one is no artifact. An untrained one holds no weights, only a
seed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from masc.compiler.files import artifact_of, atomic_write, locate, model_hash
from masc.compiler.pipeline import Compilation
from masc.compiler.plan import Plan
from masc.compiler.plan_json import dump_plan, load_plan
from masc.dsl.diagnostics import Diagnostic, MascError, fail

__all__ = [
    "Artifact",
    "Layout",
    "Manifest",
    "ModelRecord",
    "artifact_of",
    "atomic_write",
    "has_weights",
    "locate",
    "mark_trained",
    "model_hash",
    "read_artifact",
    "read_manifest",
    "state",
    "versions",
    "write_artifact",
    "write_manifest",
]

FORMAT = 1
LIBRARIES = ("masc", "torch", "transformers", "peft", "safetensors", "accelerate")


@dataclass(frozen=True)
class Layout:
    """Where things lie in an artifact."""

    root: Path

    @property
    def plan(self) -> Path:
        return self.root / "plan.json"

    @property
    def manifest(self) -> Path:
        return self.root / "manifest.json"

    @property
    def adapters(self) -> Path:
        return self.root / "adapters"

    @property
    def channels(self) -> Path:
        return self.root / "channels.safetensors"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def metrics(self) -> Path:
        return self.root / "metrics.jsonl"


@dataclass(frozen=True)
class ModelRecord:
    """A base model that an artifact was made for. `hash` as the backend computes it (`model_hash` is the usual way);
    None: the model was not on disk when the artifact was written."""

    name: str
    target: str
    revision: str | None = None
    hash: str | None = None


@dataclass(frozen=True)
class Manifest:
    """`source`: the copy's file name; `base`: the folder that paths in it are relative to; `set`: what `--set` said."""

    source: str
    base: str
    fingerprint: str
    seed: int
    trained: bool = False
    models: tuple[ModelRecord, ...] = ()
    set: tuple[tuple[str, str], ...] = ()
    versions: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Artifact:
    layout: Layout
    manifest: Manifest
    plan: Plan
    warnings: tuple[Diagnostic, ...] = field(default=(), compare=False)

    @property
    def source(self) -> Path:
        return self.layout.root / self.manifest.source


def versions() -> tuple[tuple[str, str], ...]:
    """The installed versions of what trained weights depend on, without importing any of it."""
    found = []
    for name in LIBRARIES:
        try:
            found.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            continue
    return tuple(found)


def write_artifact(
    root: Path,
    compilation: Compilation,
    *,
    models: tuple[ModelRecord, ...] = (),
    seed: int | None = None,
    trained: bool | None = None,
    force: bool = False,
) -> Artifact:
    """Write (or bring up to date) an artifact; raises MascError where that would lose trained weights.

    An unchanged plan keeps the weights, new `train` entries or not; a changed one refuses (E0513) unless `force`, which
    removes adapters, channels, checkpoints and metrics. `trained` None: as it was. `seed` None: the plan's.
    """
    plan = compilation.require()
    source = compilation.source
    assert source is not None
    layout = Layout(root)
    before = _existing(layout, force)
    same = before is not None and before.fingerprint == plan.fingerprint()
    if not same and has_weights(layout, before):
        if not force:
            message = f"`{root}` holds weights that were trained for another graph"
            raise fail("E0513", message, hint="`--force` throws them away; `-o` writes somewhere else")
        _remove_weights(layout)
        before = None
    kept = before if same else None
    records = models or (kept.models if kept else ()) or tuple(ModelRecord(m.name, m.target) for m in plan.models)
    name = Path(source.path).name if Path(source.path).suffix in (".mas", ".yaml", ".yml") else f"{plan.name}.mas"
    manifest = Manifest(
        source=name,
        base=str(compilation.base.absolute()),
        fingerprint=plan.fingerprint(),
        seed=seed if seed is not None else kept.seed if kept and kept.trained else plan.train.seed,
        trained=trained if trained is not None else bool(kept and kept.trained),
        models=records,
        set=compilation.set,
        versions=versions(),
    )
    root.mkdir(parents=True, exist_ok=True)
    if before is not None and before.source != name:
        (root / before.source).unlink(missing_ok=True)
    atomic_write(root / name, source.text)
    atomic_write(layout.plan, dump_plan(plan))
    write_manifest(layout, manifest)
    return Artifact(layout, manifest, plan)


def mark_trained(artifact: Artifact, models: tuple[ModelRecord, ...] = ()) -> Artifact:
    """Say in the manifest that the weights are there; the backend calls this once they are."""
    changed = replace(artifact.manifest, trained=True, models=models or artifact.manifest.models, versions=versions())
    write_manifest(artifact.layout, changed)
    return replace(artifact, manifest=changed)


def write_manifest(layout: Layout, manifest: Manifest) -> None:
    body: dict[str, Any] = {
        "format": FORMAT,
        "source": manifest.source,
        "base": manifest.base,
        "fingerprint": manifest.fingerprint,
        "seed": manifest.seed,
        "trained": manifest.trained,
        "models": [
            {"name": m.name, "target": m.target, "revision": m.revision, "hash": m.hash} for m in manifest.models
        ],
        "set": dict(manifest.set),
        "versions": dict(manifest.versions),
    }
    atomic_write(layout.manifest, json.dumps(body, indent=2) + "\n")


def read_manifest(layout: Layout) -> Manifest:
    """The manifest of an artifact. Raises MascError (E0510 to E0512)."""
    path = layout.manifest
    try:
        body = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        message = f"`{layout.root}` is not an artifact: there is no manifest.json in it"
        raise fail("E0510", message, hint="`masc compile` makes one") from None
    except (OSError, ValueError) as error:
        raise fail("E0511", f"cannot read `{path}`: {error}", hint="compile the program again") from None
    if not isinstance(body, dict) or "format" not in body:
        raise fail("E0511", f"`{path}` is not a manifest: it says no `format`", hint="compile the program again")
    if body["format"] != FORMAT:
        message = f"`{path}` has format {body['format']!r}, and this version of masc reads {FORMAT}"
        raise fail("E0512", message, hint="compile the program again with this version")
    try:
        return Manifest(
            source=_plain_name(_typed(body, "source", str)),
            base=_typed(body, "base", str),
            fingerprint=_typed(body, "fingerprint", str),
            seed=_typed(body, "seed", int),
            trained=_typed(body, "trained", bool),
            models=tuple(_record(model) for model in _typed(body, "models", list)),
            set=_pairs(body, "set"),
            versions=_pairs(body, "versions"),
        )
    except (KeyError, TypeError, ValueError) as error:
        what = f"`{error.args[0]}` is missing" if isinstance(error, KeyError) else str(error)
        raise fail("E0511", f"`{path}` is damaged: {what}", hint="compile the program again") from None


def read_artifact(root: Path) -> Artifact:
    """An artifact, its plan held against the manifest. Raises MascError (E0510 to E0512, E0514).

    `warnings`: libraries whose version has changed since.
    """
    layout = Layout(root)
    manifest = read_manifest(layout)
    try:
        text = layout.plan.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise fail("E0511", f"cannot read `{layout.plan}`: {error}", hint="compile the program again") from None
    plan = load_plan(text, str(layout.plan))
    if plan.fingerprint() != manifest.fingerprint:
        message = f"`{layout.plan}` is not the plan that the manifest was written for"
        raise fail("E0514", message, hint="compile the program again")
    now = dict(versions())
    warnings = tuple(
        Diagnostic("W0501", f"`{root}` was made with {name} {version}, and {now.get(name, 'none')} is installed")
        for name, version in manifest.versions
        if manifest.trained and now.get(name) != version
    )
    return Artifact(layout, manifest, plan, warnings)


def state(root: Path, compilation: Compilation) -> Literal["missing", "fresh", "stale"]:
    """Whether an artifact is there and made for this plan (`train` entries aside). Raises MascError if it is
    damaged."""
    layout = Layout(root)
    if not layout.manifest.exists():
        return "missing"
    return "fresh" if read_manifest(layout).fingerprint == compilation.require().fingerprint() else "stale"


def has_weights(layout: Layout, manifest: Manifest | None = None) -> bool:
    """Whether training has left something that would be missed: weights or checkpoints."""
    return bool(manifest and manifest.trained) or any(
        path.is_file() or (path.is_dir() and any(path.iterdir()))
        for path in (layout.adapters, layout.channels, layout.checkpoints)
    )


def _existing(layout: Layout, force: bool) -> Manifest | None:
    if not layout.manifest.exists():
        return None
    try:
        return read_manifest(layout)
    except MascError:
        if force:
            return None
        raise


def _remove_weights(layout: Layout) -> None:
    # The manifest goes first: killed half-way, what is left is no artifact rather than a wrong one.
    for path in (layout.manifest, layout.channels, layout.metrics):
        path.unlink(missing_ok=True)
    for folder in (layout.adapters, layout.checkpoints):
        shutil.rmtree(folder, ignore_errors=True)


def _typed(body: Mapping[str, Any], name: str, kind: type) -> Any:
    value = body[name]
    if type(value) is not kind:
        raise TypeError(f"`{name}` is {value!r}, not of type {kind.__name__}")
    return value


def _plain_name(name: str) -> str:
    if Path(name).name != name:
        raise ValueError(f"`source` is {name!r}, not the name of a file")
    return name


def _pairs(body: Mapping[str, Any], name: str) -> tuple[tuple[str, str], ...]:
    return tuple((str(key), str(value)) for key, value in _typed(body, name, dict).items())


def _record(body: Any) -> ModelRecord:
    if not isinstance(body, dict):
        raise TypeError("`models` holds something that is not an object")
    for name in ("revision", "hash"):
        if not isinstance(body[name], str | None):
            raise TypeError(f"`{name}` is {body[name]!r}, not a text")
    return ModelRecord(_typed(body, "name", str), _typed(body, "target", str), body["revision"], body["hash"])
