"""Running a candidate's code against tests, in a sandbox.

No secret is safe in one process, so there are two, each behind walls of its own: one has the candidate's code, the
other the tests, which call the candidate by value (`peer.py`). Only the second says whether the tests passed.
"""

from __future__ import annotations

import inspect
import json
import os
import secrets
import selectors
import signal
import subprocess
import tempfile
import time
from contextlib import ExitStack, suppress
from functools import cache

from masc.backends.scoring import code_sides, peer
from masc.backends.scoring.sandbox import MEMORY, Sandbox

SECONDS = 10
"""How long the tests of a row may take."""
_START = 10
"""Seconds more for two interpreters to start."""
_LOOK = 0.1
"""Seconds between looks at how much memory both sides hold."""
_SLACK = 2
"""Seconds more for the tests' interpreter, which may start later than the candidate's."""


def run(
    walls: Sandbox,
    code: list[str],
    before: tuple[str, ...],
    tests: tuple[str, ...],
    wanted: tuple[str, ...] = (),
    needed: tuple[str, ...] = (),
    seconds: int = SECONDS,
    start: int = _START,
) -> bool:
    """Whether tests come to their end with the candidate's code at the other end of the line."""
    end = time.monotonic() + seconds + start
    with ExitStack() as stack:
        sides = []
        for role in ("candidate_side", "tests_side"):
            folder = stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True))
            sides.append(stack.enter_context(_Side(walls, role, seconds, folder)))
        candidate, judge = sides
        watch = _Watch(sides)
        candidate.write(json.dumps({"code": code, "wanted": wanted}).encode() + b"\n", end, watch)
        told = {"before": before, "tests": tests, "wanted": wanted, "needed": needed}
        judge.write(json.dumps(told).encode() + b"\n", end, watch)
        sender, receiver = candidate, judge  # the candidate says first what it has
        while (line := sender.read(end, watch)) is not None:
            if sender is judge and line in (b"pass\n", b"fail\n"):
                return line == b"pass\n"
            if line.startswith(b'["ready"'):  # from now on it is the tests' time
                end = min(end, time.monotonic() + seconds + _SLACK)
            if not line.startswith(b"[") or not receiver.write(line, end, watch):
                return False
            sender, receiver = receiver, sender
    return False


class _Side:
    """One of the two processes, with a pipe to it and one from it."""

    def __init__(self, walls: Sandbox, role: str, seconds: int, folder: str) -> None:
        self._walls, self._name = walls, f"masc-{secrets.token_hex(8)}"
        self._process = subprocess.Popen(
            walls.command(_program(role), seconds, self._name),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env={"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": folder, "TMPDIR": folder},
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._in, False)
        os.set_blocking(self._out, False)
        self._kept = b""

    def __enter__(self) -> _Side:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._walls.stop(self._name)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                assert stream is not None
                stream.close()

    def write(self, data: bytes, end: float, watch: _Watch) -> bool:
        """Whether all of it went in in time, and no side took too much memory meanwhile."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._in, selectors.EVENT_WRITE)
            while data:
                if not watch.goes_on(end):
                    return False
                if not selector.select(_LOOK):
                    continue
                try:
                    data = data[os.write(self._in, data) :]
                except BlockingIOError:
                    continue
                except OSError:
                    return False
        return True

    def read(self, end: float, watch: _Watch) -> bytes | None:
        """The next line, None where none comes in time, it is too long, or a side takes too much memory."""
        with selectors.DefaultSelector() as selector:
            selector.register(self._out, selectors.EVENT_READ)
            while b"\n" not in self._kept:
                if len(self._kept) > peer.LARGEST or not watch.goes_on(end):
                    return None
                if not selector.select(_LOOK):
                    continue
                chunk = os.read(self._out, 1 << 16)
                if not chunk:
                    return None
                self._kept += chunk
        line, _, self._kept = self._kept.partition(b"\n")
        return line + b"\n"

    def memory(self) -> int:
        """Bytes that the process and all that it started hold."""
        import psutil

        total = 0
        with suppress(psutil.Error):
            for process in psutil.Process(self._process.pid).children(recursive=True):
                with suppress(psutil.Error):
                    total += process.memory_info().rss
        return total


class _Watch:
    """Time and memory of both sides, looked at while they talk and while they are silent."""

    def __init__(self, sides: list[_Side]) -> None:
        self._sides, self._next = sides, 0.0

    def goes_on(self, end: float) -> bool:
        now = time.monotonic()
        if now >= end:
            return False
        if now < self._next:
            return True
        self._next = now + _LOOK
        return all(side.memory() <= MEMORY for side in self._sides)


@cache
def _program(role: str) -> str:
    """The text of one side: both files, and the call that starts it."""
    text = inspect.getsource(peer) + inspect.getsource(code_sides)
    return text.replace("from __future__ import annotations\n", "") + f"\n{role}()\n"
