"""The command, or a script, in a process of its own, with standard streams of any kind, forked from one that has
imported it: what imports take (torch's above all) is paid once, and an interpreter starts and ends as it always does.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from subprocess import CompletedProcess
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

SERVER = """
import io, json, os, sys
exec(sys.argv[2])
done = os.fdopen(int(sys.argv[1]), "w")
for line in os.fdopen(os.dup(0), "r"):
    job = json.loads(line)
    child = os.fork()
    if not child:
        break
    print(child, file=done, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=done, flush=True)
else:
    sys.exit()
done.close()
os.chdir(job["cwd"])
os.environ.update(job["env"])
for number, name in enumerate(("stdin", "stdout", "stderr")):
    target = job[name]
    if target == "closed":
        os.close(number)
        setattr(sys, name, None)
        continue
    if target == "nobody":
        end, opened = os.pipe()
        os.close(end)
    else:
        opened = os.open(target, os.O_CREAT | (os.O_WRONLY if number else os.O_RDONLY))
    os.dup2(opened, number)
    os.close(opened)
    bare = number > 0 and bool(os.environ.get("PYTHONUNBUFFERED"))
    file = open(number, "wb" if number else "rb", buffering=0 if bare else -1, closefd=False)
    usual = getattr(sys, name)
    usual = file, usual.encoding, usual.errors, None, number == 2 or file.isatty(), bare
    setattr(sys, name, io.TextIOWrapper(*usual))
sys.argv = job["argv"]
if sys.argv[0] == "masc":
    from masc.cli import main
    main()
else:
    import runpy
    runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""It forks for each line that it reads, and writes as what process, and how that ended. What does not end the child
(`main` came back) ends as a program does."""
LIGHT = """
import masc.cli, masc.api, masc.compiler.artifact
from masc.compiler.pipeline import compile_source
from masc.dsl.source import Source
compile_source(Source("x.mas", "mas 1"))
"""
HEAVY = (
    LIGHT
    + """
import masc.backends.torch.build, masc.backends.torch.training.train
"""
)
_STARTED: list[Warm] = []


@dataclass
class Running:
    """A process that was forked. ended: how, once it was asked."""

    pid: int
    done: BinaryIO
    ended: int | None = None

    def wait(self) -> int:
        """Its exit status, when it is through."""
        if self.ended is None:
            self.ended = int(self.done.readline())
        return self.ended

    def runs(self) -> bool:
        """Whether it is still there: the end of one is told at once."""
        return self.ended is None and not select.select([self.done], [], [], 0)[0]

    def kill(self) -> None:
        if self.runs():
            os.kill(self.pid, signal.SIGKILL)
        self.wait()


class Warm:
    """A process that forks. prepared: what it runs first; environment: what is read when an interpreter starts."""

    def __init__(self, prepared: str, environment: Mapping[str, str]) -> None:
        reading, writing = os.pipe()
        command = [sys.executable, "-c", SERVER, str(writing), prepared]
        own = ("PYTHONUNBUFFERED", "NO_COLOR", "FORCE_COLOR")
        usual = {name: value for name, value in os.environ.items() if name not in own}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, pass_fds=[writing], text=True, env={**usual, **environment}
        )
        os.close(writing)
        self._done = os.fdopen(reading, "rb", buffering=0)  # nothing that was told waits in a buffer
        _STARTED.append(self)

    def call(self, *words: object, **options: Any) -> CompletedProcess[bytes]:
        """Run the command, or a script, to its end. options: as of `running`; what it prints is caught."""
        with TemporaryDirectory() as folder:
            caught = {name: Path(folder) / name for name in ("stdout", "stderr")}
            to: dict[str, Any] = {name: str(path) for name, path in caught.items()}
            with self.running(*words, **(to | options)) as process:
                code = process.wait()
            out, err = (path.read_bytes() if path.exists() else b"" for path in caught.values())
        return CompletedProcess(words, code, out, err)

    @contextmanager
    def running(
        self,
        *words: object,
        script: str | Path = "masc",
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        **streams: str,
    ) -> Iterator[Running]:
        """Run the command, or a script, which is not waited for: it runs within this, and is killed behind it. Nothing
        else is run meanwhile. streams: `stdin`, `stdout` and `stderr`: a path, `closed`, or `nobody`, who reads it."""
        assert self._process.stdin is not None
        to = dict.fromkeys(("stdin", "stdout", "stderr"), os.devnull) | streams
        argv = [os.fsdecode(word) if isinstance(word, bytes) else str(word) for word in (script, *words)]
        job = {"argv": argv, "cwd": str(cwd or Path.cwd()), "env": dict(env or {}), **to}
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        process = Running(int(self._done.readline()), self._done)
        try:
            yield process
        finally:
            process.kill()

    def close(self) -> None:
        """It ends with its standard input."""
        self._process.communicate()


def close_all() -> None:
    for one in _STARTED:
        one.close()


@cache
def warm(prepared: str = LIGHT, **environment: str) -> Warm:
    """One for each kind, as long as the tests run."""
    return Warm(prepared, environment)


def heavy() -> Warm:
    """One that has imported torch. More threads than one could not be forked. Its sets have another order than those of
    tests."""
    order = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    return warm(HEAVY, PYTHONUNBUFFERED="1", OMP_NUM_THREADS="1", PYTHONHASHSEED=order)
