"""Writing files atomically: whole or not at all.

A file that is overwritten stays the same file: a symbolic link stays a link (its target is written), permissions, owner
and extended attributes stay, and hard links show the new content too. A new file gets the permissions that the umask
allows.

The content is written to a temporary file beside the target, which is then renamed. If a rename would lose something
(hard links, an owner that we may not set), the content is copied into the old file instead.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from masc.dsl.diagnostics import fail
from masc.dsl.regular import dangling

_TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{8}\.tmp", re.DOTALL)
_LONGEST_STEM = 40  # characters of a file's name in that of its temporary file: names have at most 255 bytes


def atomic_write(path: Path, content: str | bytes) -> None:
    """Write a file. After a crash it holds the whole old content or the whole new one. E0612 if it cannot be
    written."""
    try:
        data = content.encode() if isinstance(content, str) else content
    except UnicodeEncodeError as error:
        why = f"the text holds half of a character (`\\u{ord(error.object[error.start]):04x}`), which no file can hold"
        raise fail("E0612", f"cannot write `{path}`: {why}") from error
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sweep(folder: Path, names: Iterable[str]) -> None:
    """Delete the temporary files that killed writers of these files left in a folder. No writer may be at work."""
    stems = {name[:_LONGEST_STEM] for name in names}
    for path in folder.glob(".*.tmp"):
        if (found := _TEMPORARY.fullmatch(path.name)) and found[1] in stems:
            with suppress(OSError):
                path.unlink()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """An empty temporary file to write into. It replaces `path` when the block ends without an error.

    Missing folders are made. E0612 if the system refuses.
    """
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        target = Path(os.path.realpath(path))
        old = _existing(target)
        temporary = target.parent / f".{target.name[:_LONGEST_STEM]}.{secrets.token_hex(4)}.tmp"
        # `open` follows the umask. A file that a library puts in its place gets the same permissions below.
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
        fresh = stat.S_IMODE(temporary.stat().st_mode)
        yield temporary
        if old is None:
            os.chmod(temporary, fresh)
        if old is None or (old.st_nlink == 1 and _made_alike(temporary, target, old)):
            os.replace(temporary, target)
        else:
            _copy_over(temporary, target, old.st_size)
    except OSError as error:
        raise fail("E0612", f"cannot write `{path}`: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def _existing(target: Path) -> os.stat_result | None:
    """The file that is there already. OSError if it cannot be overwritten."""
    try:
        old = target.stat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(old.st_mode):
        raise OSError("it is a folder" if stat.S_ISDIR(old.st_mode) else "it is not a regular file")
    if not os.access(target, os.W_OK):
        raise OSError("it may not be written to")
    return old


def _made_alike(temporary: Path, target: Path, old: os.stat_result) -> bool:
    """Give the new file the owner, permissions and attributes of the old one. Returns whether the owner could be
    set."""
    with suppress(OSError, AttributeError):  # no such call on Windows
        os.chown(temporary, old.st_uid, old.st_gid)
    with suppress(OSError, AttributeError):  # attributes are Linux's
        for name in os.listxattr(target):
            os.setxattr(temporary, name, os.getxattr(target, name))
    os.chmod(temporary, stat.S_IMODE(old.st_mode))
    new = temporary.stat()
    return (new.st_uid, new.st_gid) == (old.st_uid, old.st_gid)


def _copy_over(temporary: Path, target: Path, before: int) -> None:
    """Copy the new content into the old file, which has `before` bytes. The space is allocated first: on a full disk
    the old content stays."""
    size = temporary.stat().st_size
    with temporary.open("rb") as new, target.open("r+b") as file:
        try:
            if size > before and hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), before, size - before)
        except OSError:
            file.truncate(before)
            raise
        shutil.copyfileobj(new, file)
        file.truncate(size)
        file.flush()
        os.fsync(file.fileno())


def check_file(path: Path) -> None:
    """E0612 if a file could not be written. Asked before long work whose result it is to hold."""
    try:
        old = _existing(Path(os.path.realpath(path)))
        wrong = _obstacle(path.parent) if old is None else None
        wrong = wrong or _obstacle(Path(os.path.realpath(path)).parent)
    except OSError as error:
        wrong = error.strerror or str(error)
    if wrong:
        raise fail("E0612", f"cannot write `{path}`: {wrong}")


def check_folder(path: Path) -> None:
    """E0612 if no file could be written into a folder, which need not exist yet."""
    try:
        wrong = _obstacle(path)
    except OSError as error:
        wrong = error.strerror or str(error)
    if wrong:
        raise fail("E0612", f"cannot write into `{path}`: {wrong}")


def _obstacle(folder: Path) -> str | None:
    """Why a folder cannot be made or written into, as far as that shows without trying; None: nothing speaks against
    it."""
    if why := dangling(folder):
        return why
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        return f"`{there}` is not a folder"
    return None if os.access(there, os.W_OK | os.X_OK) else f"`{there}` may not be written into"
