"""The code scorer: runs what a model wrote, so it is off unless the user allows it (`--allow-code-execution`).

Each program runs in a process of its own: isolated Python, limits on time, memory, files and processes, a temporary
folder that is deleted. Where the Linux system lets this user have them there are three walls more: no network and no
sight of other processes (namespaces), no writing outside the folder (Landlock), and, for the superuser, another user.
`open_walls` says which are missing.
"""

from __future__ import annotations

import ast
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

PROCESSES = 32
"""How many processes and threads a program may have at once."""
_NOBODY = 65534

# Run inside. RLIMIT_NPROC does not hold for the superuser, who therefore becomes `nobody`; where `nobody` cannot read
# Python's own files (it lies in /root), reading all files (capability 2) is what is kept. `prctl(1, ...)`: end with the
# parent, which a change of user resets.
_BECOME = """
import ctypes, os, signal, struct
def become(user, reading):
    library = ctypes.CDLL(None)
    if reading: library.prctl(8, 1, 0, 0, 0)
    os.setgroups([]); os.setgid(user); os.setuid(user)
    if reading:
        header, kept = struct.pack("=Ii", 0x20080522, 0), struct.pack("=6I", 4, 4, 0, 0, 0, 0)
        if library.capset(header, kept) != 0: raise OSError("capset")
    library.prctl(1, int(signal.SIGKILL), 0, 0, 0)
"""
# Landlock has no wrapper in the C library: 444 to 446 are its system calls, on every processor.
_RUNNER = """
import os, resource, struct, sys
def cap(what, value):
    try: resource.setrlimit(what, (value, value))
    except (ValueError, OSError): pass
def wall(call, folder):
    long, version = ctypes.c_long, call(444, None, ctypes.c_long(0), ctypes.c_long(1))
    if version < 1: return
    truncate = 1 << 14 if version >= 3 else 0
    writing = 0x1FF2 | truncate | (1 << 13 if version >= 2 else 0)
    attributes = struct.pack("=Q", writing) + (struct.pack("=Q", 3) if version >= 4 else b"")
    rules = call(444, attributes, long(len(attributes)), long(0))
    for path, rights in ((folder, writing), ("/dev/null", 2 | truncate)):
        place = struct.pack("=Qi", rights, os.open(path, os.O_PATH))
        call(445, long(rules), long(1), place, long(0))
    call(446, long(rules), long(0))
try:
    import ctypes
    library = ctypes.CDLL(None)
except (ImportError, OSError): library = None
def main():
    nonce, program = sys.stdin.buffer.read().split(b"\\n", 1)
    if library is not None and sys.platform == "linux":
        library.prctl(38, 1, 0, 0, 0)
        wall(library.syscall, ".")
    {become}
    cap(resource.RLIMIT_CPU, {seconds}); cap(resource.RLIMIT_AS, {memory}); cap(resource.RLIMIT_FSIZE, 1 << 20)
    cap(resource.RLIMIT_NPROC, {processes}); cap(resource.RLIMIT_CORE, 0)
    exec(compile(program.decode(), "answer.py", "exec"), {{"__name__": "__main__"}})
    os.write({report}, nonce)
main()
"""


def _runs(command: list[str], **options: Any) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=10, **options).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False


@cache
def _namespaces() -> tuple[str, ...]:
    """A command prefix that takes away the network and, if it can be, the sight of other processes; or nothing."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return ()
    apart = ("--pid", "--fork", "--kill-child")
    for who in ((), ("--map-root-user",)):
        for what in ((*apart, "--ipc", "--mount-proc"), apart, ()):
            prefix = (unshare, "--net", *who, *what)
            if _runs([*prefix, "true"]):
                return prefix
    return ()


@cache
def _become() -> str:
    """The call with which a program becomes another user, or nothing: its starter must be the superuser for that."""
    if os.geteuid() != 0 or "--map-root-user" in _namespaces():  # such a namespace has one user only
        return ""
    for reading in (False, True):
        call = f"become({_NOBODY}, {reading})"
        if _runs([*_namespaces(), sys.executable, "-I", "-c", f"{_BECOME}{call}\nimport json, random"], cwd="/"):
            return call
    return ""


def has_tests(row: Mapping[str, Any]) -> bool:
    """Whether a row says how code is tested: `test` (HumanEval) or `test_list` (MBPP)."""
    return "test" in row or "test_list" in row


def program_of(said: str, row: Mapping[str, Any]) -> str:
    """The program to run: what was said (of a fenced block, its inside), after `prompt` where it is a completion,
    then the row's tests.

    HumanEval: the column `test` and, if the row names an `entry_point`, a call of `check` on it. MBPP: `test_imports`
    before all, then `test_setup_code` and the statements of `test_list` after what was said.
    """
    if "test" not in row:
        listed = row["test_list"]
        tests = [listed] if isinstance(listed, str) else [str(test) for test in listed]
        imports = "".join(f"{line}\n" for line in row.get("test_imports") or [])
        return f"{imports}{_code(said, '')}\n{row.get('test_setup_code') or ''}\n" + "\n".join(tests) + "\n"
    entry, prompt = str(row.get("entry_point") or ""), str(row.get("prompt") or "")
    said = _code(said, entry)
    if entry == "" or _defines(said, entry):
        # The function is there, but it may rely on what the prompt imports or defines before it.
        prompt = prompt.rstrip() + "\n" if entry and _parses(prompt) else _imports(prompt)
    call = f"\ncheck({entry})\n" if entry else "\n"
    return f"{prompt}{said}\n{row['test']}{call}"


def _code(said: str, entry: str) -> str:
    """The inside of the first fenced block that defines the wanted function, of the first one if none does."""
    blocks = [part.split("\n", 1)[-1] for part in said.split("```")[1::2]]
    return next((block for block in blocks if entry and _defines(block, entry)), blocks[0]) if blocks else said


def _defines(code: str, name: str) -> bool:
    return re.search(rf"\bdef\s+{re.escape(name)}\b", code) is not None


def _imports(code: str) -> str:
    return "".join(f"{line}\n" for line in code.splitlines() if re.match(r"(import|from)\s", line))


def _parses(code: str) -> bool:
    try:
        ast.parse(code)
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return False
    return True


def passes(program: str, seconds: int = 10, memory: int = 1 << 30) -> bool:
    """Whether a Python program runs to its end, with exit status 0, inside its limits (seconds of time, bytes of
    memory for each of its processes).

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
        if _become():
            os.chown(folder, _NOBODY, _NOBODY)
        runner = (_BECOME if _become() else "") + _RUNNER.format(
            become=_become(), seconds=seconds, memory=memory, processes=PROCESSES, report=report.fileno()
        )
        process = subprocess.Popen(
            [*_namespaces(), sys.executable, "-I", "-c", runner],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env={"PATH": "/usr/bin:/bin", "HOME": folder, "TMPDIR": folder},
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


# Each passes where its wall stands. Without a wall the first reaches a machine that exists or is told that nobody
# listens, the second writes beside its folder (and tidies up), the third gets its processes.
_PROBES = {
    "the network is not closed": """
import errno, socket
for kind, address in ((socket.SOCK_STREAM, "127.0.0.1"), (socket.SOCK_DGRAM, "192.0.2.1")):
    with socket.socket(socket.AF_INET, kind) as plug:
        plug.settimeout(2)
        error = plug.connect_ex((address, 9))
        assert error not in (0, errno.ECONNREFUSED, errno.EAGAIN, errno.ETIMEDOUT)
""",
    "files outside its folder can be written": """
import os
try:
    os.close(os.open("../masc-probe-" + str(os.getpid()), os.O_CREAT | os.O_WRONLY))
except OSError:
    pass
else:
    os.unlink("../masc-probe-" + str(os.getpid()))
    raise AssertionError
""",
    "the number of its processes is not limited": f"""
import os, time
try:
    for _ in range({PROCESSES} + 8):
        if os.fork() == 0:
            time.sleep(20)
            os._exit(0)
except OSError:
    pass
else:
    raise AssertionError
""",
}


@cache
def open_walls() -> tuple[str, ...]:
    """What this system does not keep from programs, tried out: empty where all walls stand."""
    return tuple(told for told, probe in _PROBES.items() if not passes(probe, seconds=5))
