"""The artifact: `relay.mas` compiles to `relay.masc/`, a folder that holds all but the base model's weights.

    relay.mas          a copy of the source, and of the files that it imports from its folder or below
    plan.json          the plan
    manifest.json      format, versions, models with content hashes, what `--set` said, whether it is trained
    adapters/<agent>/  PEFT's own format            } written by the backend
    channels.safetensors, checkpoints/, metrics.jsonl }

The manifest is written last: a folder without a readable one is no artifact. It holds a hash of the weights, so that
weights that were half replaced are not taken for whole ones. An untrained artifact holds no weights, only a seed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from masc.compiler.files import artifact_of, atomic_write, check_folder, is_artifact, locate, model_hash
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
    "base_of",
    "check_overwrite",
    "check_weights",
    "forget_weights",
    "has_weights",
    "install_weights",
    "is_artifact",
    "locate",
    "mark_trained",
    "model_hash",
    "read_artifact",
    "read_manifest",
    "state",
    "versions",
    "weights_hash",
    "write_artifact",
    "write_manifest",
]

FORMAT = 1
_TEMPORARY = ".tmp-weights-"
_WEIGHTS = ("adapters", "channels.safetensors")
_OWN = ("adapters", "checkpoints")
"""Folders of the artifact's own, where the copy of an imported file would be taken for what training left."""
DISTRIBUTION = "masc-lang"
"""What masc is installed as: `masc` was taken."""
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
    """`source`: the copy's file name; `base`: the folder that paths in it are relative to, and `way`: from the artifact
    to there (a project that is moved takes both along); `set`: what `--set` said; `weights`: `weights_hash` when they
    were written, None where there are none or nobody knows."""

    source: str
    base: str
    fingerprint: str
    seed: int
    trained: bool = False
    models: tuple[ModelRecord, ...] = ()
    set: tuple[tuple[str, str], ...] = ()
    versions: tuple[tuple[str, str], ...] = ()
    weights: str | None = None
    way: str | None = None


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
            found.append((name, metadata.version(DISTRIBUTION if name == "masc" else name)))
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
    before = _existing(layout, plan)
    same = before is not None and made_for(before, plan)
    check_overwrite(root, compilation, force)
    if not same and has_weights(layout, before):
        _remove_weights(layout)
        before = None
    kept = before if same else None
    records = models or (kept.models if kept else ()) or tuple(ModelRecord(m.name, m.target) for m in plan.models)
    name = Path(source.path).name if Path(source.path).suffix in (".mas", ".yaml", ".yml") else f"{plan.name}.mas"
    base = compilation.base.absolute()
    manifest = Manifest(
        source=name,
        base=str(base),
        way=os.path.relpath(base, root.absolute()),
        fingerprint=plan.fingerprint(),
        seed=seed if seed is not None else kept.seed if kept and kept.trained else plan.train.seed,
        trained=trained if trained is not None else bool(kept and kept.trained),
        models=records,
        set=compilation.set,
        versions=versions(),
        weights=kept.weights if kept else None,
    )
    if before is not None and before.source not in ("", name):
        (root / before.source).unlink(missing_ok=True)
    atomic_write(root / name, source.text)
    for where, text in compilation.imported:
        if where != name and Path(where).parts[0] not in _OWN:
            atomic_write(root / where, text)
    atomic_write(layout.plan, dump_plan(plan))
    write_manifest(layout, manifest)
    return Artifact(layout, manifest, plan)


def check_overwrite(root: Path, compilation: Compilation, force: bool = False) -> None:
    """Whether an artifact can be written here: E0612 where nothing can be, E0513 where that would lose weights that
    were trained for another graph."""
    plan, layout = compilation.require(), Layout(root)
    check_folder(root)
    before = _existing(layout, plan)
    same = before is not None and made_for(before, plan)
    if not same and not force and has_weights(layout, before):
        message = f"`{root}` holds weights that were trained for another graph"
        raise fail("E0513", message, hint="`--force` throws them away; `-o` writes somewhere else")


def mark_trained(artifact: Artifact, models: tuple[ModelRecord, ...] = ()) -> Artifact:
    """Say in the manifest that the weights are there; the backend calls this once they are."""
    changed = replace(
        artifact.manifest,
        trained=True,
        models=models or artifact.manifest.models,
        versions=versions(),
        weights=weights_hash(artifact.layout),
    )
    write_manifest(artifact.layout, changed)
    return replace(artifact, manifest=changed)


def weights_hash(layout: Layout) -> str:
    """sha256 over the names and bytes of `adapters/*/*` and `channels.safetensors`."""
    digest = hashlib.sha256()
    for path in sorted((*layout.adapters.glob("*/*"), layout.channels)):
        if path.is_file():
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
            digest.update(f"{path.relative_to(layout.root).as_posix()}\n{content}\n".encode())
    return digest.hexdigest()


def check_weights(artifact: Artifact) -> None:
    """E0617 where the weights are not those that the manifest was written for."""
    expected = artifact.manifest.weights
    if expected is not None and weights_hash(artifact.layout) != expected:
        raise fail(
            "E0617",
            f"the weights in `{artifact.layout.root}` are not those that its manifest was written for",
            hint="`masc train --resume` writes them again from the last checkpoint; `masc train --force` starts over",
        )


def install_weights(artifact: Artifact, temporary: Path, models: tuple[ModelRecord, ...]) -> Artifact:
    """Put new weights into an artifact and mark it as trained.

    `temporary`: a folder in the artifact that holds `adapters/` and/or `channels.safetensors`; it is used up. Where
    anything fails the old weights are put back. After a kill in between, the hash in the manifest does not match.
    """
    layout = artifact.layout
    aside = layout.root / f"{_TEMPORARY}old-{os.getpid()}"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        _move_weights(layout.root, aside)
        try:
            _move_weights(temporary, layout.root)
            changed = mark_trained(artifact, models)
        except BaseException:
            _remove_files(layout)
            raise
    except BaseException:
        _move_weights(aside, layout.root)
        shutil.rmtree(aside, ignore_errors=True)
        raise
    for stale in layout.root.glob(f"{_TEMPORARY}*"):
        shutil.rmtree(stale, ignore_errors=True)
    return changed


def _move_weights(source: Path, target: Path) -> None:
    for name in _WEIGHTS:
        if (source / name).exists():
            (source / name).rename(target / name)


def _remove_files(layout: Layout) -> None:
    shutil.rmtree(layout.adapters, ignore_errors=True)
    layout.channels.unlink(missing_ok=True)


def forget_weights(artifact: Artifact) -> Artifact:
    """Throw weights and checkpoints away. The manifest goes first: it must not promise what is being deleted."""
    layout = artifact.layout
    changed = replace(artifact.manifest, trained=False, weights=None)
    write_manifest(layout, changed)
    _remove_files(layout)
    shutil.rmtree(layout.checkpoints, ignore_errors=True)
    layout.metrics.unlink(missing_ok=True)
    return replace(artifact, manifest=changed)


def write_manifest(layout: Layout, manifest: Manifest) -> None:
    body: dict[str, Any] = {
        "format": FORMAT,
        "source": manifest.source,
        "base": manifest.base,
        "way": manifest.way,
        "fingerprint": manifest.fingerprint,
        "seed": manifest.seed,
        "trained": manifest.trained,
        "weights": manifest.weights,
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
            weights=_text_or_none(body, "weights"),
            way=_text_or_none(body, "way"),
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
    if not made_for(manifest, plan):
        message = f"`{layout.plan}` is not the plan that the manifest was written for"
        raise fail("E0514", message, hint="compile the program again")
    now = dict(versions())
    warnings = tuple(
        Diagnostic("W0501", f"`{root}` was made with {name} {version}, and {now.get(name, 'none')} is installed")
        for name, version in manifest.versions
        if manifest.trained and now.get(name) != version
    )
    return Artifact(layout, manifest, plan, warnings)


def base_of(artifact: Artifact) -> Path:
    """The folder that paths in an artifact's source are relative to: where it was compiled, or, if that is gone because
    the project was moved, the same way from the artifact as then."""
    root, manifest = artifact.layout.root.absolute(), artifact.manifest
    candidates = [Path(manifest.base), *([Path(os.path.normpath(root / manifest.way))] if manifest.way else [])]
    return next((folder for folder in candidates if folder.is_dir()), root.parent)


def state(root: Path, compilation: Compilation) -> Literal["missing", "fresh", "stale"]:
    """Whether an artifact is there and made for this plan (`train` entries and decoding aside). Raises MascError if it
    is damaged."""
    layout = Layout(root)
    if not layout.manifest.exists():
        return "missing"
    return "fresh" if made_for(read_manifest(layout), compilation.require()) else "stale"


def made_for(manifest: Manifest, plan: Plan) -> bool:
    """Whether weights beside a manifest are of this plan. Earlier manifests count how answers are decoded, too."""
    return manifest.fingerprint in (plan.fingerprint(), plan.fingerprint(decoding=True))


def has_weights(layout: Layout, manifest: Manifest | None = None) -> bool:
    """Whether training has left something that would be missed: weights or checkpoints."""
    return bool(manifest and manifest.trained) or any(
        path.is_file() or (path.is_dir() and any(path.iterdir()))
        for path in (layout.adapters, layout.channels, layout.checkpoints)
    )


def _existing(layout: Layout, plan: Plan) -> Manifest | None:
    """The manifest that is there. Where it is missing or damaged but `plan.json` is this very plan, what can be known
    of it: the weights beside it are this plan's, and must not be lost for a broken file."""
    try:
        return read_manifest(layout)
    except MascError:
        pass
    try:
        if load_plan(layout.plan.read_text(encoding="utf-8")).fingerprint() != plan.fingerprint():
            return None
    except (OSError, ValueError, MascError):
        return None
    trained = any(layout.adapters.glob("*/*")) or layout.channels.is_file()
    weights = weights_hash(layout) if trained else None
    models = tuple(ModelRecord(m.name, m.target) for m in plan.models)
    return Manifest("", "", plan.fingerprint(), plan.train.seed, trained, models, weights=weights)


def _remove_weights(layout: Layout) -> None:
    # The manifest goes first, then the plan: killed half-way, what is left is no artifact rather than a wrong one.
    for path in (layout.manifest, layout.plan, layout.metrics):
        path.unlink(missing_ok=True)
    _remove_files(layout)
    shutil.rmtree(layout.checkpoints, ignore_errors=True)


def _typed(body: Mapping[str, Any], name: str, kind: type) -> Any:
    value = body[name]
    if type(value) is not kind:
        raise TypeError(f"`{name}` is {value!r}, not of type {kind.__name__}")
    return value


def _text_or_none(body: Mapping[str, Any], name: str) -> str | None:
    """An entry that manifests had not always."""
    return None if body.get(name) is None else str(_typed(body, name, str))


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
