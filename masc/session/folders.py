"""A new folder that a command writes: whole or not at all, and never over something."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from masc.compiler.files.writing import check_folder
from masc.dsl.diagnostics import fail
from masc.session.outputs import owner_of


def check_new(out: Path) -> None:
    """E0612 where a new folder cannot be made: something is there, or it would lie in an artifact or a model."""
    check_folder(out)
    if out.is_symlink() or (out.exists() and (not out.is_dir() or any(out.iterdir()))):
        raise fail("E0612", f"`{out}` is there already", hint="name a new or empty folder with -o")
    if whose := owner_of(out / "config.json"):
        raise fail("E0612", f"cannot write `{out}`: it lies in {whose}", hint="name another folder with -o")


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder beside `out` to write into, which gets its name once all is written; nothing stays of it else. E0612 as
    of `check_new`, and where writing fails."""
    check_new(out)
    part = out.absolute().parent / f".{out.name[:40]}.{secrets.token_hex(4)}.tmp"
    try:
        part.mkdir(parents=True)
        yield part
        if out.is_dir():
            out.rmdir()
        os.rename(part, out)
    except OSError as error:
        raise fail("E0612", f"cannot write `{out}`: {error.strerror or error}") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
