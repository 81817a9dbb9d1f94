"""What goes wrong with a disk while a team is trained, in words."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from masc.dsl.diagnostics import fail

_FULL = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota of the disk is used up",
    errno.EFBIG: "a file would become larger than it may be here",
}


@contextmanager
def writing(what: str) -> Iterator[None]:
    """Within it an error of the file system is E0703: what was trained up to the last checkpoint is kept."""
    try:
        yield
    except OSError as error:
        full = _FULL.get(error.errno or 0)
        why = full or error.strerror or str(error)
        what_to_do = "make room" if full else "put that right"
        hint = f"the checkpoints that are there are whole: {what_to_do}, then go on with --resume"
        raise fail("E0703", f"{what} cannot be written: {why}", hint=hint) from error
