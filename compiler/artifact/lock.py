"""One writer at a time: who compiles into an artifact, trains it or saves into it holds its lock; readers need none.

The lock is the operating system's, on `.lock` in the artifact: it is gone when the process is, however that ended.
`.lock.json` beside it says who holds it, for the message to the second one.
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

from masc.compiler.artifact.install import settle_alone
from masc.compiler.artifact.layout import HOLDER, LOCK, Layout, leftovers
from masc.compiler.files.reading import read_json
from masc.compiler.files.writing import atomic_write, check_folder
from masc.dsl.diagnostics import MascError, fail


def is_other_rank() -> bool:
    """Whether this process is one of several that train together (torchrun), and not the one that writes for all."""
    return os.environ.get("WORLD_SIZE", "1") not in ("", "0", "1") and os.environ.get("RANK", "0") not in ("", "0")


@contextmanager
def writing(root: Path, wait: float = 0.3) -> Iterator[None]:
    """Hold an artifact's folder, made if need be, so that nobody else writes there. Within it the same thread may ask
    again. What writers that were killed left behind is put in order first.

    wait: seconds to wait for another one (readers that put in order what a killed writer left take moments). E0641,
    which says who, where that is in vain; E0612 where nothing can be written.
    """
    check_folder(root)
    new = not root.exists()
    try:
        with _locked(root, wait) as again:
            if not again:
                _put_in_order(Layout(root))
            yield
    except BaseException:
        if new:  # nothing was put there: leave no empty folder either
            _remove_empty(root)
        raise


@contextmanager
def _locked(root: Path, wait: float) -> Iterator[bool]:
    """Hold the lock; gives whether this thread had it already."""
    from filelock import FileLock, Timeout  # here, for `masc check` needs no lock

    try:
        root.mkdir(parents=True, exist_ok=True)
        with warnings.catch_warnings():
            # Where the file system has no locks, filelock takes a marker of its own and says so.
            warnings.filterwarnings("ignore", message="flock not supported")
            # One object for one path, which counts how often each thread has it.
            lock = FileLock(root.resolve() / LOCK, is_singleton=True)
            again = lock.is_locked
            lock.acquire(timeout=wait, poll_interval=0.02)
    except Timeout:
        raise _refusal(root) from None
    except OSError as error:
        raise fail("E0612", f"cannot write into `{root}`: {error.strerror or error}") from error
    try:
        if not again:
            with suppress(MascError):  # a full disk: what matters is the lock
                atomic_write(root / HOLDER, json.dumps(_self()) + "\n")
        yield again
    finally:
        if not again:
            with suppress(OSError):
                (root / HOLDER).unlink(missing_ok=True)
        lock.release()


def _put_in_order(layout: Layout) -> None:
    settle_alone(layout)
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
        who = "another process"  # it has only just taken the lock, or is about to give it back
    return fail("E0641", f"`{root}` is being written by {who}", hint=hint)
