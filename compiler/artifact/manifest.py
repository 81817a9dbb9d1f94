"""`manifest.json`: what an artifact was made from, and its files with their checksums."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from masc.compiler.artifact.layout import (
    ADAPTER_FILES,
    ADAPTERS,
    CHANNELS,
    MANIFEST,
    PLAN,
    Layout,
    is_inside,
    is_weights,
)
from masc.compiler.artifact.of_training import describe_training
from masc.compiler.files.reading import parse_json, read_regular
from masc.compiler.forms.earlier import earlier_fingerprint
from masc.compiler.forms.essence import fingerprint
from masc.compiler.ir.plan import Plan
from masc.compiler.language.bounds import SEED
from masc.dsl.diagnostics import MascError, did_you_mean, fail
from masc.dsl.regular import MEND_LINK, dangling

FORMAT = 2
DISTRIBUTION = "masc-lang"
"""The name of masc's distribution on PyPI, where `masc` is another project."""
LIBRARIES = ("masc", "torch", "transformers", "peft", "safetensors", "accelerate")
_MOST = 1 << 26  # bytes of the largest manifest that is read
_SHA256 = re.compile(r"[0-9a-f]{64}")

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class ModelRecord:
    """A base model that an artifact was made for. `hash`: of its files, as the backend computes it (see `model_hash`).
    None: the model was not on disk when the artifact was written."""

    name: str
    target: str
    revision: str | None = None
    hash: str | None = None


@dataclass(frozen=True)
class Training:
    """How the weights were trained.

    rows, data_hash  the number of training rows, and a hash of their contents; `data`: their file, if there was one
    settings         the `train` entries that were used, as JSON; `set`: those given by `--set`
    processes        how many processes shared a batch
    init_from        the artifact whose adapters training began with
    starts           by agent: the trained adapter that its own began with, and the sha256 of its weights if it was read
    """

    rows: int
    data_hash: str
    data: str | None = None
    settings: Pairs = ()
    set: Pairs = ()
    processes: int = 1
    versions: Pairs = ()
    init_from: str | None = None
    starts: Pairs = ()


@dataclass(frozen=True)
class Manifest:
    """What `manifest.json` says.

    source       the file name of the source's copy
    base         the folder that paths in the source are relative to (empty: it was on another machine); `way`: the path
                 from the artifact to that folder, which still leads there if the whole project is moved
    set          what `--set` said
    files        path and sha256 of every file that masc wrote, but for checkpoints and metrics
    training     how the weights were trained; None: there are none, or it is not known
    init_from    the artifact whose adapters the unfinished run began with
    """

    source: str
    base: str
    fingerprint: str
    seed: int
    trained: bool = False
    models: tuple[ModelRecord, ...] = ()
    set: Pairs = ()
    versions: Pairs = ()
    files: Pairs = ()
    training: Training | None = None
    way: str | None = None
    init_from: str | None = None

    @property
    def weights(self) -> str | None:
        """One sha256 over the paths and checksums of all weights; None: there are none."""
        lines = [f"{name}\n{digest}\n" for name, digest in sorted(self.files) if is_weights(name)]
        return hashlib.sha256("".join(lines).encode()).hexdigest() if self.trained else None


def portable(manifest: Manifest) -> Manifest:
    """The same, for other machines: paths in the source are relative to the folder beside the artifact, and of the
    folders of this machine nothing is said but their last names."""
    training = manifest.training
    if training is not None:
        training = replace(training, data=_last(training.data), init_from=_last(training.init_from))
    return replace(manifest, base="", way="..", training=training, init_from=_last(manifest.init_from))


def _last(path: str | None) -> str | None:
    return Path(path).name if path is not None and Path(path).is_absolute() else path


@cache
def versions() -> Pairs:
    """The installed versions of the libraries that trained weights depend on. Imports none of them."""
    found = []
    for name in LIBRARIES:
        try:
            found.append((name, metadata.version(DISTRIBUTION if name == "masc" else name)))
        except metadata.PackageNotFoundError:
            continue
    return tuple(found)


def dump_manifest(manifest: Manifest) -> str:
    training = manifest.training
    body: dict[str, Any] = {
        "made_by": "masc",
        "format": FORMAT,
        "source": manifest.source,
        "base": manifest.base,
        "way": manifest.way,
        "fingerprint": manifest.fingerprint,
        "seed": manifest.seed,
        "trained": manifest.trained,
        "weights": manifest.weights,
        "init_from": manifest.init_from,
        "training": None if training is None else _training_body(training),
        "models": [
            {"name": m.name, "target": m.target, "revision": m.revision, "hash": m.hash} for m in manifest.models
        ],
        "set": dict(manifest.set),
        "versions": dict(manifest.versions),
        "files": dict(sorted(manifest.files)),
    }
    return json.dumps(body, indent=2) + "\n"


def _training_body(training: Training) -> dict[str, Any]:
    body = {field.name: getattr(training, field.name) for field in fields(Training)}
    return body | {name: dict(body[name]) for name in ("settings", "set", "versions", "starts")}


def read_manifest(layout: Layout) -> Manifest:
    """The manifest of an artifact. Raises MascError (E0510 to E0512)."""
    return _read(layout, layout.at(MANIFEST), (FORMAT,))


def known_manifest(layout: Layout, path: Path | None = None) -> Manifest | None:
    """The manifest (or the one at `path`) that is about to be overwritten. It may have an earlier format; its files are
    then taken to be the usual ones. None if it is missing or damaged."""
    try:
        return _read(layout, path or layout.at(MANIFEST), (1, FORMAT))
    except MascError:
        return None


def made_for(manifest: Manifest, plan: Plan) -> bool:
    """Whether weights with this manifest were trained for this plan. Earlier versions computed the fingerprint in
    another way (`earlier.py`), and the first ones included how answers are decoded."""
    known = manifest.fingerprint
    if known in (fingerprint(plan), fingerprint(plan, decoding=True)):
        return True
    return known in (earlier_fingerprint(plan), earlier_fingerprint(plan, decoding=True))


def usual_files(root: Path, source: str = "") -> Pairs:
    """The files that masc writes into an artifact, as far as they exist, for a manifest that does not list them."""
    names = [source, PLAN, CHANNELS]
    names += [path.relative_to(root).as_posix() for name in ADAPTER_FILES for path in root.glob(f"{ADAPTERS}/*/{name}")]
    return tuple((name, "") for name in names if name and (root / name).is_file())


def _neighbours(root: Path) -> list[str]:
    """The artifacts beside one that is not there."""
    try:
        return [path.name for path in root.parent.iterdir() if path.suffix == ".masc"]
    except OSError:
        return []


def _read(layout: Layout, path: Path, formats: tuple[int, ...]) -> Manifest:
    try:
        body = parse_json(read_regular(path, _MOST), unique=True)
    except (FileNotFoundError, NotADirectoryError):
        if why := dangling(layout.root):
            raise fail("E0510", f"`{layout.root}` cannot be read: {why}", hint=MEND_LINK) from None
        if told := describe_training(layout.root):
            raise fail("E0510", told[0], hint=told[1]) from None
        if not os.path.lexists(layout.root):
            hint = did_you_mean(layout.root.name, _neighbours(layout.root)) or "`masc compile` makes one"
            raise fail("E0510", f"there is no artifact `{layout.root}`", hint=hint) from None
        message = f"`{layout.root}` is not an artifact: there is no manifest.json in it"
        raise fail("E0510", message, hint="`masc compile` makes one") from None
    except (OSError, ValueError) as error:
        raise fail("E0511", f"cannot read `{path}`: {error}", hint="compile the program again") from None
    if not isinstance(body, dict) or "format" not in body:
        raise fail("E0511", f"`{path}` is not a manifest: it says no `format`", hint="compile the program again")
    form = body["format"]
    if type(form) is not int or form not in formats:
        message = f"`{path}` has format {str(form)[:40]}, and this version of masc reads {FORMAT}"
        raise fail("E0512", message, hint="compile the program again with this version")
    try:
        return _parse(layout.root, body)
    except (KeyError, TypeError, ValueError) as error:
        what = f"`{error.args[0]}` is missing" if isinstance(error, KeyError) else str(error)
        raise fail("E0511", f"`{path}` is damaged: {what}", hint="compile the program again") from None


def _parse(root: Path, body: Mapping[str, Any]) -> Manifest:
    source = _plain_name(_typed(body, "source", str))
    found = Manifest(
        source=source,
        base=_typed(body, "base", str),
        fingerprint=_typed(body, "fingerprint", str),
        seed=_typed(body, "seed", int),
        trained=_typed(body, "trained", bool),
        models=tuple(_record(model) for model in _typed(body, "models", list)),
        set=_pairs(body, "set"),
        versions=_pairs(body, "versions"),
        files=usual_files(root, source) if body["format"] == 1 else _files(body),
        training=None if body.get("training") is None else _training(_typed(body, "training", dict)),
        way=_or_none(body, "way"),
        init_from=_or_none(body, "init_from"),
    )
    if wrong_seed := SEED.complaint("seed", found.seed):
        raise ValueError(wrong_seed)
    if not found.trained and body["format"] != 1 and any(is_weights(name) for name, _ in found.files):
        raise ValueError("`files` lists weights, and `trained` is false")
    return found


def _training(body: Mapping[str, Any]) -> Training:
    return Training(
        rows=_typed(body, "rows", int),
        data_hash=_typed(body, "data_hash", str),
        data=_or_none(body, "data"),
        settings=_pairs(body, "settings"),
        set=_pairs(body, "set"),
        processes=_typed(body, "processes", int),
        versions=_pairs(body, "versions"),
        init_from=_or_none(body, "init_from"),
        starts=_pairs(body, "starts") if "starts" in body else (),
    )


def _files(body: Mapping[str, Any]) -> Pairs:
    found = _pairs(body, "files")
    for name, digest in found:
        if not is_inside(name):
            raise ValueError(f"`files` names {name!r}, which is not a path inside the artifact")
        if not _SHA256.fullmatch(digest):
            raise ValueError(f"`files` says {digest!r} of {name!r}, which is no checksum")
    return found


def _typed(body: Mapping[str, Any], name: str, kind: type) -> Any:
    value = body[name]
    if type(value) is not kind:
        raise TypeError(f"`{name}` is {str(value)[:80]!r}, not of type {kind.__name__}")
    return value


def _or_none(body: Mapping[str, Any], name: str) -> str | None:
    return None if body.get(name) is None else str(_typed(body, name, str))


def _plain_name(name: str) -> str:
    if not is_inside(name) or "/" in name:
        raise ValueError(f"`source` is {name!r}, not the name of a file")
    return name


def _pairs(body: Mapping[str, Any], name: str) -> Pairs:
    found = _typed(body, name, dict)
    for key, value in found.items():
        if type(value) is not str:
            raise TypeError(f"`{name}` says {str(value)[:80]!r} of `{key}`, which is not text")
    return tuple(found.items())


def _record(body: Any) -> ModelRecord:
    if not isinstance(body, dict):
        raise TypeError(f"`models` holds {str(body)[:80]!r}, which is no model")
    name, target = _typed(body, "name", str), _typed(body, "target", str)
    return ModelRecord(name, target, _or_none(body, "revision"), _or_none(body, "hash"))
