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

SANDBOXES = ("auto", "bwrap", "docker", "podman", "none")
"""What may be asked for; `auto`: the first that works (`choose_sandbox.py`)."""
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
# System calls that nothing needs that computes (namespaces, mounts, keys, other processes' memory), by processor: its
# mark, its numbers of clone and socket, theirs. Sockets are those of files and of the internet, which the walls shut
# off: others (vsock, to the host of a virtual machine) know no namespaces. See linux/audit.h.
DENIED = {
    "x86_64": (0xC000003E, 56, 41, "272 308 165 166 428 429 430 248 249 250 101 310 311 298 321 323 304 425"),
    "aarch64": (0xC00000B7, 220, 198, "97 268 40 39 428 429 430 217 218 219 117 270 271 241 280 282 265 425"),
}
def deny():
    if os.uname().machine not in DENIED: return
    arch, clone, socket, calls = DENIED[os.uname().machine]
    step = lambda code, k, yes=0, no=0: struct.pack("=HBBI", code, yes, no, k)
    no, allow = 0x00050001, 0x7FFF0000
    program = step(0x20, 4) + step(0x15, arch, 1, 0) + step(6, 0x80000000) + step(0x20, 0)
    program += step(0x35, 0x40000000, 0, 1) + step(6, no)
    for number in map(int, calls.split()): program += step(0x15, number, 0, 1) + step(6, no)
    program += step(0x15, socket, 0, 6) + step(0x20, 16) + step(0x15, 1, 3) + step(0x15, 2, 2) + step(0x15, 10, 1)
    program += step(6, 0x00050061) + step(6, allow)
    program += step(0x15, 435, 0, 1) + step(6, 0x00050026)  # clone3 is not there, so that clone is used
    program += step(0x15, clone, 0, 3) + step(0x20, 16) + step(0x45, 0x7E020000, 0, 1) + step(6, no) + step(6, allow)
    buffer = ctypes.create_string_buffer(program, len(program))
    class Program(ctypes.Structure): _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
    told = Program(len(program) // 8, ctypes.addressof(buffer))
    if library.prctl(22, 2, ctypes.byref(told), 0, 0) != 0: raise OSError("seccomp")
def shut(folder):  # Landlock: no writing outside the folder; 444 to 446 are its system calls on every processor
    call, long = library.syscall, ctypes.c_long
    version = call(444, None, long(0), long(1))
    if version < 1: return
    truncate = 1 << 14 if version >= 3 else 0
    writing = 0x1FF2 | truncate | (1 << 13 if version >= 2 else 0)
    attributes = struct.pack("=Q", writing) + (struct.pack("=Q", 3) if version >= 4 else b"")
    rules = call(444, attributes, long(len(attributes)), long(0))
    for path, rights in ((folder, writing), ("/dev/null", 2 | truncate)):
        call(445, long(rules), long(1), struct.pack("=Qi", rights, os.open(path, os.O_PATH)), long(0))
    call(446, long(rules), long(0))
def setup(folder, user, bare, seconds, memory, processes, size, files, file_size):
    if folder:
        options = ("size=%d,nr_inodes=%d,mode=777" % (size, files)).encode()
        if library.mount(b"tmpfs", folder.encode(), b"tmpfs", 2 | 4, options) != 0: raise OSError("mount")
        os.chdir(folder)
    if user:
        os.setgroups([])
        try: os.setgid(user); os.setuid(user)
        except OSError: os.setgid(65534); os.setuid(65534)
    library.prctl(38, 1, 0, 0, 0)
    if bare and sys.platform == "linux": shut(".")
    if sys.platform == "linux":
        header, none = struct.pack("=Ii", 0x20080522, 0), struct.pack("=6I", 0, 0, 0, 0, 0, 0)
        if library.capset(header, none) != 0: raise OSError("capset")
    limits = dict(CPU=seconds, AS=memory, FSIZE=file_size, NOFILE=64, NPROC=processes, CORE=0)
    if sys.platform == "linux": deny()
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


def program_inside(folder: str, user: int, program: str, seconds: int, bare: bool = False) -> str:
    limits = f"{seconds}, {MEMORY}, {PROCESSES}, {FOLDER_SIZE}, {FOLDER_FILES}, {FILE_SIZE}"
    return f"{_SETUP}\nsetup({folder!r}, {user}, {bare}, {limits})\n{program}"


# -- bubblewrap -------------------------------------------------------------------------------------------------------


def bubblewrap(superuser: bool) -> Sandbox:
    """superuser: who runs it is root, and it makes no user namespace."""

    def command(program: str, seconds: int, name: str) -> list[str]:
        return _bwrap(program, seconds, name, superuser)

    return Sandbox("bwrap", command)


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


def container(tool: str) -> Sandbox:
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


def bare() -> Sandbox:
    return Sandbox("none", _bare)


def _bare(program: str, seconds: int, name: str) -> list[str]:
    """A process in a temporary folder with limits, without the network where this user may have namespaces, without
    writing outside the folder where the system has Landlock. Who writes `--sandbox none` knows that such code can read
    what the user can, and reach sockets by their path."""
    return [*_without_network(), sys.executable, "-I", "-c", program_inside("", 0, program, seconds, bare=True)]


@cache
def _without_network() -> tuple[str, ...]:
    found = shutil.which("unshare")  # as a path: whatever PATH is when it is used
    for who in ((), ("--map-root-user",)) if found else ():
        command = (str(found), "--net", "--pid", "--fork", "--kill-child", *who)
        try:
            if subprocess.run([*command, "true"], capture_output=True, timeout=10, check=False).returncode == 0:
                return command
        except (OSError, subprocess.SubprocessError):
            pass
    return ()
