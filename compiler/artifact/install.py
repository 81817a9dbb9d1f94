"""All new files of an artifact become valid at once.

They are written to a staging folder in the artifact, the manifest last. Then that folder is renamed to `.masc-install`.
From this rename on the new files are valid: readers look there first (`Layout.at`). Each file is then moved to its
place, files that only the old manifest lists are deleted, and the manifest is moved last. If a writer is killed before
the rename, nothing has changed. If it is killed later, the next writer moves the rest.

Only files that the old manifest lists are overwritten or deleted. All other files belong to the user.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from masc.compiler.artifact.layout import MANIFEST, METRICS, PROFILE, STAGED, Layout, is_checkpoint
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
    """E0518 if a file of the user would be overwritten, or if a link leads out of the artifact. A file with the same
    content as the staged one may stay."""
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
    """Replace the old files by those in a staging folder, and the manifest by this one. The caller holds the lock.
    `manifest.files`: the old files that stay. Returns the manifest with all files in it."""
    old = known_manifest(layout)
    owned = {MANIFEST} | {name for name, _ in (old.files if old else manifest.files)}
    new = staged_files(staged)
    check_free(layout, [name for name, _ in new], owned | {name for name, _ in manifest.files}, staged)
    # A file of the user with the same content stays the user's: it is not listed, so it is never deleted.
    listed = {name: digest for name, digest in new if name in owned or not os.path.lexists(layout.root / name)}
    changed = replace(manifest, files=tuple(sorted({**dict(manifest.files), **listed}.items())))
    atomic_write(staged / MANIFEST, dump_manifest(changed))
    for path in [staged, *staged.rglob("*")]:
        if path.is_dir():  # `atomic_write` has synced the files
            _to_disk(path)
    staged.rename(layout.pending)
    _to_disk(layout.root)
    finish_install(layout)
    return changed


def finish_install(layout: Layout) -> None:
    """Move the files of an install that has begun to their places. The caller holds the lock. It can be repeated after
    it was interrupted at any point."""
    if layout.pending.is_symlink():  # no install makes a link: what it leads to is the user's
        layout.pending.unlink()
    if not layout.pending.is_dir():
        return
    pending = layout.pending / MANIFEST
    if not pending.is_file():  # all files were moved, only empty folders are left
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
    """Delete a file of an artifact, and each folder that is empty afterwards."""
    path = root / name
    if any((root / parent).is_symlink() for parent in list(Path(name).parents)[:-1]):
        return  # a link leads out of the artifact: files there are not masc's
    with suppress(FileNotFoundError, NotADirectoryError):
        path.unlink()
    for parent in list(Path(name).parents)[:-1]:
        try:
            (root / parent).rmdir()
        except OSError:
            return


def remove_training(layout: Layout) -> None:
    """Delete checkpoints, metrics and the profile, but no other files beside them."""
    if layout.checkpoints.is_dir():
        for path in layout.checkpoints.iterdir():
            if is_checkpoint(path) and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
    with suppress(OSError):
        layout.checkpoints.rmdir()
    for name in (METRICS, PROFILE):
        with suppress(OSError):
            (layout.root / name).unlink(missing_ok=True)


def _to_disk(path: Path) -> None:
    """Sync a folder, so that its new entries survive a power failure. Systems that cannot do that are left alone."""
    with suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
