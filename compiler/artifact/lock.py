"""One process writes into an artifact at a time. Compiling, training and saving hold its lock; readers need none.

The lock is one of the operating system, on the file `.lock` in the artifact: it ends with the process, also if that
crashes. `.lock.json` says which process holds it, for the message to the next one.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import socket
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from masc.compiler.artifact.install import finish_install
from masc.compiler.artifact.layout import HOLDER, LOCK, Layout, leftovers
from masc.compiler.files.reading import read_json
from masc.compiler.files.writing import atomic_write, check_folder
from masc.dsl.diagnostics import MascError, fail


def is_other_rank() -> bool:
    """Whether this process is one of several that train together (torchrun), and not the one that writes for all."""
    return os.environ.get("WORLD_SIZE", "1") not in ("", "0", "1") and os.environ.get("RANK", "0") not in ("", "0")


@contextmanager
def writing(root: Path, wait: float = 0.3) -> Iterator[None]:
    """Hold the lock of an artifact's folder, which is made if it is missing. The same thread may ask for it again.
    What killed writers left behind is cleaned up first.

    wait: seconds to wait for the lock (a reader that cleans up after a killed writer holds it for a moment). E0641 if
    another process still holds it, with its name; E0612 if nothing can be written there.
    """
    check_folder(root)
    new = not root.exists()
    try:
        with _locked(root, wait) as again:
            if not again:
                _clean_up(Layout(root))
            yield
    except BaseException:
        if new:  # nothing was written: leave no empty folder
            _remove_empty(root)
        raise


@contextmanager
def _locked(root: Path, wait: float) -> Iterator[bool]:
    """Hold the lock. Yields whether this thread had it already."""
    from filelock import FileLock, Timeout  # imported here: `masc check` needs no lock

    try:
        root.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            # If the file system has no locks, filelock uses a marker file and warns.
            warnings.filterwarnings("ignore", message="flock not supported")
            # One lock object for each path, which counts how often each thread holds it.
            lock = FileLock(root.resolve() / LOCK, is_singleton=True)
            again = lock.is_locked
            lock.acquire(timeout=wait, poll_interval=0.02)
    except Timeout:
        raise _refusal(root) from None
    except OSError as error:
        raise fail("E0612", f"cannot write into `{root}`: {error.strerror or error}") from error
    try:
        if not again:
            with suppress(MascError):  # such as a full disk: the lock holds all the same
                atomic_write(root / HOLDER, json.dumps(_self()) + "\n")
        yield again
    finally:
        if not again:
            with suppress(OSError):
                (root / HOLDER).unlink(missing_ok=True)
        lock.release()


def _clean_up(layout: Layout) -> None:
    finish_install(layout)
    for path in list(leftovers(layout.root)):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path != layout.root / HOLDER:
            path.unlink(missing_ok=True)


def _remove_empty(root: Path) -> None:
    with suppress(OSError):
        if {path.name for path in root.iterdir()} <= {LOCK}:
            (root / LOCK).unlink(missing_ok=True)
            root.rmdir()


def _self() -> dict[str, str | int]:
    program, *arguments = sys.argv or [""]
    command = shlex.join([Path(program).name or "python", *arguments])
    since = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    return {"process": os.getpid(), "host": socket.gethostname(), "command": command, "since": since}


def _refusal(root: Path) -> MascError:
    hint = "wait until it is done, or write somewhere else"
    try:
        found = read_json(root / HOLDER, 1 << 20)
        command, host, since = (str(found[name])[:200] for name in ("command", "host", "since"))
        who = f"`{command}` (process {int(found['process'])} on {host}, since {since})"
    except (OSError, ValueError, KeyError, TypeError):
        who = "another process"  # it is just taking the lock or giving it back
    return fail("E0641", f"`{root}` is being written by {who}", hint=hint)
