"""Walls around code that a model wrote: bubblewrap, a container, or (only where that is asked for) next to none.

Inside there are Python and the system's libraries, read-only; a small folder of its own; no home, no network, no
sockets, no other processes; limits on time, memory, processes and files.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from masc.backends.scoring.declarations import SANDBOXES
from masc.dsl.diagnostics import fail

PROCESSES = 16
"""Processes and threads at once."""
MEMORY = 1 << 30
"""Bytes: of each process as address space, of all together as memory."""
FOLDER_SIZE, FOLDER_FILES, FILE_SIZE = 16 << 20, 1000, 1 << 20
"""Bytes and files of the folder, bytes of one file."""
_SCRATCH = "/scratch"

# Run inside before anything else. As the superuser (bwrap without a user namespace) it becomes a user that nobody else
# is, since limits on processes do not hold for the superuser; then no capability is left. 2 | 4: MS_NOSUID, MS_NODEV.
_SETUP = """
import ctypes, os, resource, struct, sys
library = ctypes.CDLL(None, use_errno=True)
def setup(folder, user, seconds, memory, processes, size, files, file_size):
    if folder:
        options = ("size=%d,nr_inodes=%d,mode=777" % (size, files)).encode()
        if library.mount(b"tmpfs", folder.encode(), b"tmpfs", 2 | 4, options) != 0: raise OSError("mount")
        os.chdir(folder)
    if user:
        os.setgroups([])
        try: os.setgid(user); os.setuid(user)
        except OSError: os.setgid(65534); os.setuid(65534)
    library.prctl(38, 1, 0, 0, 0)
    if sys.platform == "linux":
        header, none = struct.pack("=Ii", 0x20080522, 0), struct.pack("=6I", 0, 0, 0, 0, 0, 0)
        if library.capset(header, none) != 0: raise OSError("capset")
    limits = dict(CPU=seconds, AS=memory, FSIZE=file_size, NOFILE=64, NPROC=processes, CORE=0)
    for name, value in limits.items():
        what = getattr(resource, "RLIMIT_" + name)
        least = min(value, *(old for old in resource.getrlimit(what) if old != resource.RLIM_INFINITY), value)
        resource.setrlimit(what, (least, least))
"""


@dataclass(frozen=True)
class Sandbox:
    """command: of (program, seconds) the command that runs a Python program (given as text) inside; stop: ends by name
    what killing the command would leave running."""

    name: str
    command: Callable[[str, int, str], list[str]]
    stop: Callable[[str], None] = lambda name: None


def program_inside(folder: str, user: int, program: str, seconds: int) -> str:
    limits = f"{seconds}, {MEMORY}, {PROCESSES}, {FOLDER_SIZE}, {FOLDER_FILES}, {FILE_SIZE}"
    return f"{_SETUP}\nsetup({folder!r}, {user}, {limits})\n{program}"


# -- bubblewrap -------------------------------------------------------------------------------------------------------


def _bwrap(program: str, seconds: int, name: str, superuser: bool) -> list[str]:
    user = 1_000_000_000 + secrets.randbelow(1_000_000_000) if superuser else 0
    command = [str(shutil.which("bwrap")), "--unshare-net", "--unshare-pid", "--unshare-ipc", "--unshare-uts"]
    command += ["--unshare-cgroup-try", "--die-with-parent", "--new-session", "--clearenv", "--hostname", "sandbox"]
    if superuser:
        command += [
            "--cap-drop",
            "ALL",
            "--cap-add",
            "CAP_SYS_ADMIN",
            "--cap-add",
            "CAP_SETUID",
            "--cap-add",
            "CAP_SETGID",
        ]
    else:
        command += ["--unshare-user", "--uid", "0", "--gid", "0", "--cap-add", "CAP_SYS_ADMIN"]
    for variable, value in _environment(_SCRATCH).items():
        command += ["--setenv", variable, value]
    command += ["--tmpfs", "/tmp", "--dir", _SCRATCH]
    for folder in ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64"):
        path = Path(folder)
        if path.is_symlink():
            command += ["--symlink", os.readlink(folder), folder]
        elif path.exists():
            command += ["--ro-bind", folder, folder]
    for file in ("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives", "/etc/localtime"):
        command += ["--ro-bind-try", file, file]
    for folder in _python_folders():
        for above in reversed(Path(folder).parents[:-1]):
            if not any(str(above) == done for done in command):
                command += ["--perms", "0755", "--dir", str(above)]
        command += ["--ro-bind", folder, folder]
    command += ["--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev", "--remount-ro", "/tmp", "--remount-ro", "/"]
    command += ["--chdir", "/", sys.executable, "-I", "-c", program_inside(_SCRATCH, user, program, seconds)]
    return command


def _python_folders() -> list[str]:
    """What Python needs of itself, outside /usr: its programs and libraries, nothing else that lies beside them."""
    found = []
    for prefix in dict.fromkeys((sys.base_prefix, sys.base_exec_prefix, sys.prefix, sys.exec_prefix)):
        for part in ("bin", "lib", "lib64", "pyvenv.cfg"):
            path = Path(prefix, part)
            if path.exists() and not path.resolve().is_relative_to("/usr") and str(path) not in found:
                found.append(str(path))
    return found


def _environment(folder: str) -> dict[str, str]:
    threads = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL")}
    return {"PATH": "/usr/bin:/bin", "HOME": folder, "TMPDIR": folder, "LANG": "C.UTF-8", **threads}


# -- containers -------------------------------------------------------------------------------------------------------


def _container(tool: str) -> Sandbox:
    image = f"python:{sys.version_info[0]}.{sys.version_info[1]}-slim"

    def command(program: str, seconds: int, name: str) -> list[str]:
        found = [str(shutil.which(tool)), "run", "--rm", "--interactive", "--name", name, "--network", "none"]
        found += ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--user", "65534:65534"]
        found += ["--memory", str(MEMORY), "--memory-swap", str(MEMORY), "--pids-limit", str(PROCESSES)]
        found += ["--tmpfs", f"{_SCRATCH}:rw,size={FOLDER_SIZE},nr_inodes={FOLDER_FILES},mode=1777"]
        found += ["--workdir", _SCRATCH]
        for variable, value in _environment(_SCRATCH).items():
            found += ["--env", f"{variable}={value}"]
        return [*found, image, "python", "-I", "-c", program_inside("", 0, program, seconds)]

    def stop(name: str) -> None:
        subprocess.run([str(shutil.which(tool)), "rm", "--force", name], capture_output=True, timeout=60, check=False)

    return Sandbox(tool, command, stop)


# -- next to none -----------------------------------------------------------------------------------------------------


def _bare(program: str, seconds: int, name: str) -> list[str]:
    """A process in a temporary folder with limits, and without the network where this user may have namespaces. Who
    writes `--sandbox none` knows that such code can read and write what the user can."""
    return [*_without_network(), sys.executable, "-I", "-c", program_inside("", 0, program, seconds)]


@cache
def _without_network() -> tuple[str, ...]:
    for who in ((), ("--map-root-user",)):
        command = ("unshare", "--net", "--pid", "--fork", "--kill-child", *who)
        try:
            if subprocess.run([*command, "true"], capture_output=True, timeout=10, check=False).returncode == 0:
                return command
        except (OSError, subprocess.SubprocessError):
            pass
    return ()


# -- which ------------------------------------------------------------------------------------------------------------


@cache
def _tried(name: str) -> Sandbox | str:
    """The sandbox of a name, or why it cannot be had."""
    from masc.backends.scoring.code import holds

    if name == "none":
        return Sandbox("none", _bare)
    if shutil.which(name) is None:
        return f"`{name}` is not installed"
    if name != "bwrap":
        return sandbox if holds(sandbox := _container(name), 120) else f"`{name}` cannot run a container here"
    for superuser in (True, False) if os.geteuid() == 0 else (False,):

        def command(program: str, seconds: int, name: str, superuser: bool = superuser) -> list[str]:
            return _bwrap(program, seconds, name, superuser)

        if holds(sandbox := Sandbox("bwrap", command), 20):
            return sandbox
    return "`bwrap` cannot build its walls here (are user namespaces switched off?)"


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
    hint = "install bubblewrap (`apt install bubblewrap`), or write `--sandbox none` to run the code without walls"
    raise fail("E0660", f"nothing here can shut in the code that is to be run: {'; '.join(why)}", hint=hint)
