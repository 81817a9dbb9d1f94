"""New files are put into an artifact all at once.

They are written to a staging folder in the artifact, the manifest last. One rename of that folder to `.masc-install`
makes them count: from then on whoever reads finds them there, before what lies in the artifact itself (`Layout.at`).
Then each one is moved to its place, files that the old manifest lists and the new one does not are deleted, the
manifest is moved last. A writer that is killed before the rename has changed nothing; after it, the next one moves the
rest.

Only files that the old manifest lists are written over or deleted: all others are somebody's own.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from masc.compiler.artifact.layout import MANIFEST, METRICS, STAGED, Layout, is_checkpoint
from masc.compiler.artifact.manifest import Manifest, dump_manifest, known_manifest
from masc.compiler.files.reading import digest_of
from masc.compiler.files.writing import atomic_write
from masc.dsl.diagnostics import MascError, fail


@contextmanager
def staging(layout: Layout) -> Iterator[Path]:
    """An empty folder in the artifact to write new files into, before they are installed."""
    folder = layout.root / f"{STAGED}{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir()
        yield folder
    except OSError as error:
        raise fail("E0612", f"cannot write into `{layout.root}`: {error.strerror or error}") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def staged_files(staged: Path) -> tuple[tuple[str, str], ...]:
    """Path and sha256 of every file in a staging folder."""
    files = sorted(path for path in staged.rglob("*") if path.is_file())
    return tuple((path.relative_to(staged).as_posix(), digest_of(path)) for path in files)


def check_free(layout: Layout, names: Iterable[str], owned: Iterable[str], staged: Path | None = None) -> None:
    """E0518 where a file of somebody's own would be written over, or where a link leads out of the artifact. One that
    says the same as the staged one may stay."""
    own = set(owned)
    for name in names:
        path = layout.root / name
        for parent in list(path.relative_to(layout.root).parents)[:-1]:
            folder = layout.root / parent
            if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
                raise _in_the_way(layout, parent.as_posix(), "is a link" if folder.is_symlink() else "is no folder")
        if not os.path.lexists(path):
            continue
        if path.is_dir() and not path.is_symlink():
            raise _in_the_way(layout, name, "is a folder")
        if name not in own and (staged is None or not _same(path, staged / name)):
            raise _in_the_way(layout, name, "was not written by masc")


def _same(path: Path, other: Path) -> bool:
    return path.is_file() and path.stat().st_size == other.stat().st_size and digest_of(path) == digest_of(other)


def _in_the_way(layout: Layout, name: str, what: str) -> MascError:
    hint = "move it away, or name another folder with -o"
    return fail("E0518", f"`{name}` in `{layout.root}` {what}, and masc would have to write over it", hint=hint)


def install(layout: Layout, staged: Path, manifest: Manifest) -> Manifest:
    """Let the files of a staging folder and the manifest take the place of the old ones. To be called with the lock
    held; `manifest.files`: the old files that stay. Returns the manifest with all files in it."""
    old = known_manifest(layout)
    owned = {MANIFEST} | {name for name, _ in (old.files if old else manifest.files)}
    new = staged_files(staged)
    check_free(layout, [name for name, _ in new], owned | {name for name, _ in manifest.files}, staged)
    # A file of somebody's own that says the same stays theirs: it is not listed, so it is never deleted.
    listed = {name: digest for name, digest in new if name in owned or not os.path.lexists(layout.root / name)}
    changed = replace(manifest, files=tuple(sorted({**dict(manifest.files), **listed}.items())))
    atomic_write(staged / MANIFEST, dump_manifest(changed))
    for path in [staged, *staged.rglob("*")]:
        if path.is_dir():  # the files are there already: `atomic_write` sees to it
            _to_disk(path)
    staged.rename(layout.pending)
    _to_disk(layout.root)
    settle_alone(layout)
    return changed


def settle_alone(layout: Layout) -> None:
    """Move what is pending to its place. To be called with the lock held. It may be begun again at any point."""
    if layout.pending.is_symlink():  # no install makes one: what it leads to is somebody's own
        layout.pending.unlink()
    if not layout.pending.is_dir():
        return
    pending = layout.pending / MANIFEST
    if not pending.is_file():  # the last move was done, and the empty folders remain
        shutil.rmtree(layout.pending, ignore_errors=True)
        return
    old, new = known_manifest(layout, layout.manifest), known_manifest(layout, pending)
    if new is None:
        raise fail("E0511", f"`{pending}` is damaged", hint=f"delete `{layout.pending}` to keep what was there before")
    try:
        for path in sorted(layout.pending.rglob("*")):
            if path.is_file() and path != pending:
                target = layout.root / path.relative_to(layout.pending)
                target.parent.mkdir(parents=True, exist_ok=True)
                os.replace(path, target)
        kept = {name for name, _ in new.files}
        for name, _ in old.files if old else ():
            if name not in kept:
                remove_file(layout.root, name)
        os.replace(pending, layout.manifest)
    except OSError as error:
        raise fail("E0612", f"cannot write into `{layout.root}`: {error.strerror or error}") from error
    shutil.rmtree(layout.pending, ignore_errors=True)
    _to_disk(layout.root)


def remove_file(root: Path, name: str) -> None:
    """Delete a file of an artifact, and the folders that are empty without it."""
    path = root / name
    if any((root / parent).is_symlink() for parent in list(Path(name).parents)[:-1]):
        return  # a link to somewhere else: what lies there is not ours
    with suppress(FileNotFoundError, NotADirectoryError):
        path.unlink()
    for parent in list(Path(name).parents)[:-1]:
        try:
            (root / parent).rmdir()
        except OSError:
            return


def remove_training(layout: Layout) -> None:
    """Delete checkpoints and metrics, and nothing else that lies beside them."""
    if layout.checkpoints.is_dir():
        for path in layout.checkpoints.iterdir():
            if is_checkpoint(path) and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        layout.checkpoints.rmdir()
    with suppress(OSError):
        (layout.root / METRICS).unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    """A folder's new entries are on the disk before they count; systems that cannot say so are left alone."""
    with suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
