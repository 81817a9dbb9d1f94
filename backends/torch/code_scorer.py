"""The code scorer: runs what a model wrote, so it is off unless the user allows it (`--allow-code-execution`).

Each program runs in a process of its own, isolated Python, with limits on time, memory, files and processes, in a
temporary folder that is deleted, and without a network where the system lets an ordinary user have that (Linux
namespaces).
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from typing import Any

_RUNNER = """
import os, resource, sys
def cap(what, value):
    try: resource.setrlimit(what, (value, value))
    except (ValueError, OSError): pass
def main():
    nonce, program = sys.stdin.buffer.read().split(b"\\n", 1)
    cap(resource.RLIMIT_CPU, {seconds}); cap(resource.RLIMIT_AS, {memory}); cap(resource.RLIMIT_FSIZE, 1 << 20)
    cap(resource.RLIMIT_NPROC, 64); cap(resource.RLIMIT_CORE, 0)
    exec(compile(program.decode(), "answer.py", "exec"), {{"__name__": "__main__"}})
    os.write({report}, nonce)
main()
"""


@cache
def _no_network() -> tuple[str, ...]:
    """A command prefix that takes the network away, or nothing where that is not allowed."""
    unshare = shutil.which("unshare")
    prefix = (unshare or "", "--net", "--map-root-user")
    if unshare and subprocess.run([*prefix, "true"], capture_output=True).returncode == 0:
        return prefix
    return ()


def program_of(said: str, row: Mapping[str, Any]) -> str:
    """The program to run: what was said (of a fenced block, its inside) after `prompt` where it is a completion,
    then the row's column `test` and, if the row names an `entry_point`, a call of HumanEval's `check` on it."""
    if "```" in said:
        said = said.split("```")[1].split("\n", 1)[-1]
    entry = str(row.get("entry_point", ""))
    whole = entry == "" or re.search(rf"\bdef\s+{re.escape(entry)}\b", said) is not None
    call = f"\ncheck({entry})\n" if entry else "\n"
    prompt = str(row.get("prompt", ""))
    if whole:  # the function is there, but it may rely on what the prompt imports
        prompt = "".join(f"{line}\n" for line in prompt.splitlines() if re.match(r"(import|from)\s", line))
    return f"{prompt}{said}\n{row['test']}{call}"


def passes(program: str, seconds: int = 10, memory: int = 1 << 30) -> bool:
    """Whether a Python program runs to its end, with exit status 0, inside its limits (seconds of time, bytes of
    memory).

    An exit status alone proves nothing: an answer that calls `os._exit(0)` never gets to its tests. So the runner
    gets a secret, new for each run, and hands it back through a file of its own after the last line of the program;
    it is compared here. What the program prints is thrown away, so printing itself or a great deal is of no use. The
    limit of this: answer, tests and runner share one interpreter, so an answer that sets out to cheat can search the
    frames above it for the secret, or change what the tests call. It holds against careless programs, not against
    malicious ones.
    """
    nonce = secrets.token_hex(16).encode()
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        tempfile.TemporaryFile() as report,
    ):
        runner = _RUNNER.format(seconds=seconds, memory=memory, report=report.fileno())
        process = subprocess.Popen(
            [*_no_network(), sys.executable, "-I", "-c", runner],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env={"PATH": "/usr/bin:/bin", "HOME": folder},
            pass_fds=(report.fileno(),),
            start_new_session=True,
        )
        try:
            process.communicate(nonce + b"\n" + program.encode(errors="surrogatepass"), timeout=seconds + 2)
        except subprocess.TimeoutExpired:
            return False
        finally:
            with suppress(OSError):  # there is nobody left
                os.killpg(process.pid, signal.SIGKILL)  # with all that it started
            process.wait()
        report.seek(0)
        return process.returncode == 0 and report.read(len(nonce) + 1) == nonce
