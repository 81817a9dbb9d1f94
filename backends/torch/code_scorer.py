"""The code scorer: runs what a model wrote, so it is off unless the user allows it (`--allow-code-execution`).

Each program runs in a process of its own, isolated Python, with limits on time, memory, files and processes, in a
temporary folder that is deleted, and without a network where the system lets an ordinary user have that (Linux
namespaces).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from typing import Any

from masc.dsl.diagnostics import fail

_LIMITS = """
import resource, sys
def cap(what, value):
    try: resource.setrlimit(what, (value, value))
    except (ValueError, OSError): pass
cap(resource.RLIMIT_CPU, {seconds}); cap(resource.RLIMIT_AS, {memory}); cap(resource.RLIMIT_FSIZE, 1 << 20)
cap(resource.RLIMIT_NPROC, 64); cap(resource.RLIMIT_CORE, 0)
exec(compile(sys.stdin.read(), "answer.py", "exec"), {{"__name__": "__main__"}})
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
    then the row's `test` and, if the row names an `entry_point`, a call of HumanEval's `check` on it."""
    if "test" not in row:
        raise fail("E0604", "the code scorer needs a column `test`", hint="HumanEval's own columns work as they are")
    if "```" in said:
        said = said.split("```")[1].split("\n", 1)[-1]
    entry = str(row.get("entry_point", ""))
    whole = said if not entry or f"def {entry}" in said else str(row.get("prompt", "")) + said
    call = f"\ncheck({entry})\n" if entry else "\n"
    return f"{whole}\n{row['test']}{call}"


def passes(program: str, seconds: int = 10, memory: int = 1 << 30) -> bool:
    """Whether a Python program ends with exit status 0 inside its limits (seconds of time, bytes of memory)."""
    runner = _LIMITS.format(seconds=seconds, memory=memory)
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run(
                [*_no_network(), sys.executable, "-I", "-c", runner],
                input=program.encode(),
                cwd=folder,
                env={"PATH": "/usr/bin:/bin", "HOME": folder},
                capture_output=True,
                timeout=seconds + 2,
            )
        except subprocess.TimeoutExpired:
            return False
    return done.returncode == 0
