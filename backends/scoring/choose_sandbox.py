"""Which sandbox works on this machine: that is found out by running code in it that tries to get out."""

from __future__ import annotations

import os
import shutil
from functools import cache

from masc.backends.scoring.code_run import SECONDS, run
from masc.backends.scoring.sandbox import PROCESSES, SANDBOXES, Sandbox, bare, bubblewrap, container
from masc.dsl.diagnostics import fail

# What walls must hold: each tries to get out, and fails inside.
_PROBE = f"""
import os, socket
def out():
    found = []
    for kind, address in ((socket.AF_INET, ("127.0.0.1", 9)), (socket.AF_INET, ("192.0.2.1", 9))):
        with socket.socket(kind, socket.SOCK_DGRAM) as plug:
            try: plug.connect(address)
            except OSError: pass
            else: found.append("network") if address[0] != "127.0.0.1" else None
    import ctypes
    if ctypes.CDLL(None).unshare(0x10000000) == 0: found.append("namespaces")
    started = []
    try:
        for _ in range({PROCESSES + 8}):
            child = os.fork()
            if child == 0:
                import time; time.sleep(30); os._exit(0)
            started.append(child)
        found.append("processes")
    except OSError: pass
    for child in started: os.kill(child, 9); os.waitpid(child, 0)
    for folder in ("/", "/usr", "/tmp", "/dev", "/dev/shm", "/var/tmp"):
        try: open(folder + "/masc-probe", "w").close()
        except OSError: pass
        else: found.append(folder)
    return found
"""


def _holds(walls: Sandbox, start: int) -> bool:
    """Whether walls can be built here, and hold. start: seconds that they may take to stand."""
    tests = ("assert out() == []",)
    return run(walls, [_PROBE], (), tests, ("out",), ("out",), seconds=SECONDS, start=start)


@cache
def _tried(name: str) -> Sandbox | str:
    """The sandbox of a name, or why it cannot be had."""
    if name == "none":
        return bare()
    if shutil.which(name) is None:
        return f"`{name}` is not installed"
    if name != "bwrap":
        return sandbox if _holds(sandbox := container(name), 120) else f"`{name}` cannot run a container here"
    for superuser in (True, False) if os.geteuid() == 0 else (False,):
        if _holds(sandbox := bubblewrap(superuser), 20):
            return sandbox
    return "`bwrap` cannot make a sandbox here (are user namespaces switched off?)"


def sandbox_of(name: str) -> Sandbox:
    """The walls of a name; auto: the first of bwrap, docker and podman that stands. E0660 where none does."""
    if name not in SANDBOXES:
        raise fail("E0660", f"unknown sandbox `{name}`", hint=f"known are {', '.join(SANDBOXES)}")
    why = []
    for one in ("bwrap", "docker", "podman") if name == "auto" else (name,):
        found = _tried(one)
        if isinstance(found, Sandbox):
            return found
        why.append(found)
    hint = "install bubblewrap (`apt install bubblewrap`), or write `--sandbox none` to run the code without a sandbox"
    raise fail("E0660", f"no sandbox works here for the code that is to be run: {'; '.join(why)}", hint=hint)
