"""Opening files that anybody may have named: regular files of a sensible size, and nothing that is waited for.

A pipe would be waited for, a device may have no end, and to open one can already do something. So a path is looked at
before it is opened, opened without waiting, and what was opened is looked at again: it may have been exchanged.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

MEND_LINK = "create the link again, or name the file itself"
"""The hint where `dangling` says why."""
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0) | getattr(os, "O_BINARY", 0)
_KINDS = (
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class TooLargeError(OSError):
    """A file holds more than is read of one."""


@contextmanager
def open_regular(path: str | os.PathLike[str], most: int | None = None) -> Iterator[BinaryIO]:
    """A regular file, open for reading bytes.

    most: of how many bytes it may be at the time (None: of any number). OSError where it is no regular file or the
    system refuses, TooLargeError where it is larger.
    """
    try:
        about = os.stat(path)
    except OSError as error:
        if (why := dangling(path)) is None:
            raise
        raise type(error)(error.errno, why) from None
    _regular(path, about, most)
    handle = os.open(path, _FLAGS)
    with os.fdopen(handle, "rb") as file:
        _regular(path, os.fstat(handle), most)
        yield file


def read_regular(path: str | os.PathLike[str], most: int) -> bytes:
    """All bytes of a regular file, of which there may be so many. OSError and TooLargeError as `open_regular`; the size
    that the system tells is not trusted (it is 0 in /proc)."""
    with open_regular(path, most) as file:
        data = file.read(most + 1)
    if data is None:  # a file without an end of its own, such as the kernel's log, with nothing in it now
        raise OSError("reading it might never end")
    if len(data) > most:
        raise _too_large(None, most)
    return data


def dangling(path: str | os.PathLike[str]) -> str | None:
    """Why nothing is found at a path though its name is there: it, or a folder on the way to it, is a symbolic link
    that points to something that is not there. None for every other path."""
    given = Path(path)
    for part in (given, *given.parents):
        if not os.path.islink(part):
            continue
        what = "it is" if part == given else f"`{part}` is"
        try:
            os.stat(part)
        except FileNotFoundError:
            return f"{what} a link to `{os.readlink(part)}`, which is not there"
        except OSError as error:
            if error.errno == errno.ELOOP:
                return f"{what} a link that leads back to itself"
    return None


def _regular(path: str | os.PathLike[str], about: os.stat_result, most: int | None) -> None:
    if stat.S_ISDIR(about.st_mode):
        raise IsADirectoryError("it is a folder, not a regular file")
    if not stat.S_ISREG(about.st_mode):
        kind = next((name for test, name in _KINDS if test(about.st_mode)), "no file")
        raise OSError(f"it is {kind}, not a regular file")
    if most is not None and about.st_size > most:
        raise _too_large(about.st_size, most)


def _too_large(size: int | None, most: int) -> TooLargeError:
    return TooLargeError(f"it holds {'' if size is None else f'{size:,} bytes, '}more than the {most:,} that are read")
