"""Writing artifacts: only into an empty folder or an artifact, and trained weights are only deleted if asked to."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from masc.compiler.artifact.install import (
    check_free,
    install,
    remove_training,
    staging,
)
from masc.compiler.artifact.layout import (
    CHECKPOINTS,
    HOLDER,
    LOCK,
    MANIFEST,
    METRICS,
    PLAN,
    PROFILE,
    RESERVED,
    Layout,
    is_checkpoint,
    is_inside,
    is_weights,
    leftovers,
)
from masc.compiler.artifact.lock import writing
from masc.compiler.artifact.manifest import (
    Manifest,
    ModelRecord,
    Training,
    dump_manifest,
    known_manifest,
    made_for,
    usual_files,
    versions,
)
from masc.compiler.artifact.read import Artifact
from masc.compiler.files.reading import digest_of, read_regular
from masc.compiler.files.writing import atomic_write, check_folder
from masc.compiler.forms.differences import changed_lines
from masc.compiler.forms.essence import essence, fingerprint
from masc.compiler.forms.plan_json import dump_plan, load_plan
from masc.compiler.pipeline import Compilation
from masc.dsl.diagnostics import Diagnostic, MascError, fail


def write_artifact(
    root: Path,
    compilation: Compilation,
    *,
    models: tuple[ModelRecord, ...] = (),
    seed: int | None = None,
    force: bool = False,
    anew: bool = False,
    init_from: str | None = None,
) -> Artifact:
    """Write or update an artifact. Raises MascError if that would delete trained weights or files of the user.

    If the plan is unchanged, the weights stay, even if `train` entries have changed. If it has changed, weights are an
    error (E0513) unless `force`, which deletes adapters, channels, checkpoints and metrics. anew: delete them in any
    case. seed None: the plan's. init_from: the artifact whose adapters training is about to begin with.
    """
    plan, layout = compilation.require(), Layout(root)
    with writing(root):
        before = _repaired(layout, compilation, check_overwrite(root, compilation, force or anew))
        kept = before if before is not None and made_for(before, plan) and not anew else None
        if before is not None and kept is None:
            remove_training(layout)
        manifest = _manifest(root, compilation, models, seed, kept)
        manifest = replace(manifest, init_from=init_from if init_from or kept is None else kept.init_from)
        manifest, warnings = _put(layout, compilation, manifest)
    return Artifact(layout, manifest, plan, warnings)


def save_artifact(
    root: Path,
    compilation: Compilation,
    put: Callable[[Path], None],
    *,
    models: tuple[ModelRecord, ...],
    seed: int,
    training: Training | None,
) -> Artifact:
    """Write an artifact with new weights. `put` writes `adapters/` and `channels.safetensors` into the folder that it
    is given. Checkpoints and metrics stay. Raises MascError as `write_artifact`; then nothing has changed."""
    plan, layout = compilation.require(), Layout(root)
    with writing(root):
        before = _repaired(layout, compilation, check_overwrite(root, compilation, beside_training=True))
        same = before is not None and made_for(before, plan)
        manifest = _manifest(root, compilation, models, seed, before if same else None)
        manifest = replace(manifest, trained=True, training=training, files=(), init_from=None)
        manifest, warnings = _put(layout, compilation, manifest, put)
    return Artifact(layout, manifest, plan, warnings)


def _put(
    layout: Layout, compilation: Compilation, manifest: Manifest, put: Callable[[Path], None] | None = None
) -> tuple[Manifest, tuple[Diagnostic, ...]]:
    copies = _copies(compilation)
    with staging(layout) as staged:
        for name, text in copies.texts.items():
            atomic_write(staged / name, text)
        atomic_write(staged / PLAN, dump_plan(compilation.require()))
        if put is not None:
            put(staged)
        return install(layout, staged, manifest), copies.warnings


def check_overwrite(
    root: Path,
    compilation: Compilation,
    force: bool = False,
    beside_training: bool = False,
    ways: str = "`--force` throws them away; `-o` writes somewhere else",
) -> Manifest | None:
    """The manifest of the artifact that would be overwritten; None if there is none. E0612 if nothing can be written,
    E0518 for a folder that holds files of the user, E0513 if weights that were trained for another graph would be
    lost, E0519 if a copy that was edited by hand would be lost.

    beside_training: checkpoints and metrics may be in the folder, and stay. ways: the hint of E0513, how to keep the
    weights.
    """
    plan, layout = compilation.require(), Layout(root)
    check_folder(root)
    before = _known(layout, compilation, beside_training)
    same = before is not None and made_for(before, plan)
    if not same and not force and has_weights(layout, before) and not (before is None and beside_training):
        message = f"`{root}` holds weights that were trained for another graph{_difference(layout, compilation)}"
        raise fail("E0513", message, hint=ways)
    listed = dict(before.files) if before else {}
    copies = _copies(compilation).texts
    new = [name for name in copies if name not in listed or not (root / name).is_file()]
    check_free(layout, [name for name in new if not _says(root / name, copies[name])], listed)
    for name, text in copies.items():
        path = root / name
        if not force and listed.get(name) and path.is_file() and not _says(path, text) and _changed(path, listed[name]):
            hint = f"`masc compile {path}` compiles it as it is; `--force` throws the change away"
            raise fail("E0519", f"`{path}` was changed by hand since it was copied there", hint=hint)
    return before


def _difference(layout: Layout, compilation: Compilation) -> str:
    """What differs from the plan that was compiled before, as `: - old line; + new line`; empty if it cannot be
    read."""
    try:
        before = essence(load_plan(read_regular(layout.at(PLAN), 1 << 30).decode("utf-8")))
    except (OSError, ValueError, MascError):
        return ""
    lines = changed_lines(before, essence(compilation.require()))
    return f": {lines}" if lines else ""


def _says(path: Path, text: str) -> bool:
    try:
        return path.is_file() and path.read_bytes() == text.encode("utf-8", "surrogatepass")
    except OSError:
        return False


def _changed(path: Path, digest: str) -> bool:
    return digest_of(path) != digest


@dataclass(frozen=True)
class _Copies:
    """The texts of the source and of its imports, by path in the artifact; warnings about those that cannot be
    copied."""

    texts: dict[str, str]
    warnings: tuple[Diagnostic, ...]


def source_name(compilation: Compilation) -> str:
    """The file name of the source's copy."""
    assert compilation.source is not None
    name = Path(compilation.source.path).name
    return name if Path(name).suffix in (".mas", ".yaml", ".yml") else f"{compilation.require().name}.mas"


def _copies(compilation: Compilation) -> _Copies:
    assert compilation.source is not None
    name = source_name(compilation)
    texts, taken, warnings = {name: compilation.source.text}, {name.casefold()}, []
    for where, text in compilation.imported:
        path = Path(where).as_posix()
        first = path.split("/")[0].casefold()
        if path == name and text == compilation.source.text:
            continue
        # Some file systems do not tell upper and lower case apart: two such names would be one file.
        if not is_inside(path) or first in RESERVED or path.casefold() in taken:
            message = f"`{where}` is not copied into the artifact, where its name is taken"
            warnings.append(Diagnostic("W0502", message, hint="the artifact needs that file where it is; rename it"))
            continue
        texts[path] = text
        taken.add(path.casefold())
    return _Copies(texts, tuple(warnings))


def _manifest(
    root: Path, compilation: Compilation, models: tuple[ModelRecord, ...], seed: int | None, kept: Manifest | None
) -> Manifest:
    """kept: the manifest whose weights stay in the artifact."""
    plan, base = compilation.require(), compilation.base.absolute()
    records = models or (kept.models if kept else ()) or tuple(ModelRecord(m.name, m.target) for m in plan.models)
    trained = kept is not None and kept.trained
    return Manifest(
        source=source_name(compilation),
        base=str(base),
        way=os.path.relpath(base, root.absolute()),
        fingerprint=fingerprint(plan),
        seed=seed if seed is not None else kept.seed if kept and trained else plan.train.seed,
        trained=trained,
        models=records,
        set=compilation.set,
        versions=kept.versions if kept and trained else versions(),
        files=tuple((name, digest) for name, digest in kept.files if is_weights(name)) if kept else (),
        training=kept.training if kept else None,
    )


# -- what is in the folder ---------------------------------------------------------------------------------------------


def has_weights(layout: Layout, manifest: Manifest | None = None) -> bool:
    """Whether the folder holds weights or checkpoints."""
    return bool(manifest and manifest.trained) or has_adapters(layout) or has_checkpoints(layout)


def has_adapters(layout: Layout) -> bool:
    """Whether there are adapters or channels."""
    return layout.channels.is_file() or any(layout.adapters.glob("*/adapter_model.safetensors"))


def has_checkpoints(layout: Layout) -> bool:
    """Whether there is a checkpoint from which training could go on."""
    return any(is_checkpoint(path) for path in layout.checkpoints.glob("step-*"))


def _known(layout: Layout, compilation: Compilation, beside_training: bool) -> Manifest | None:
    """The manifest of the folder. If it is missing or damaged but `plan.json` can be read, a manifest made from that
    plan: the weights beside it belong to it, and a broken file is no reason to lose them."""
    if (known := known_manifest(layout)) is not None:
        return known
    try:
        plan = load_plan(read_regular(layout.plan, 1 << 30).decode("utf-8"))
    except (OSError, ValueError, MascError):
        if strange := _strangers(layout.root, beside_training):
            message = f"`{layout.root}` is neither empty nor an artifact of masc: it holds `{strange[0]}`"
            raise fail("E0518", message, hint="name a new or empty folder with -o") from None
        return None
    copies = tuple((name, "") for name in _copies(compilation).texts if (layout.root / name).is_file())
    files = tuple({**dict(usual_files(layout.root)), **dict(copies)}.items())
    models = tuple(ModelRecord(m.name, m.target) for m in plan.models)
    return Manifest(
        source_name(compilation), "", fingerprint(plan), plan.train.seed, has_adapters(layout), models, files=files
    )


def _strangers(root: Path, beside_training: bool) -> list[str]:
    """The names in a folder that do not belong to masc."""
    if not root.is_dir():
        return []
    ours = {LOCK, HOLDER} | ({CHECKPOINTS, METRICS, PROFILE} if beside_training else set())
    left = {path.name for path in leftovers(root)}
    return sorted(path.name for path in root.iterdir() if path.name not in ours | left)


def _repaired(layout: Layout, compilation: Compilation, known: Manifest | None) -> Manifest | None:
    """The same manifest with all checksums. One that had to be reconstructed is written to the disk, because an
    interrupted install is finished with its help."""
    if known is None or (all(digest for _, digest in known.files) and known_manifest(layout) is not None):
        return known
    files = tuple((name, digest or digest_of(layout.root / name)) for name, digest in known.files)
    whole = replace(known, files=files, source=known.source or source_name(compilation))
    atomic_write(layout.root / MANIFEST, dump_manifest(whole))
    return whole
