"""Walls: each way out that code may try is closed. Where bubblewrap cannot run, these tests say so and are skipped."""

# ruff: noqa: E501 (programs stand on a line each)

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

import pytest

from masc.backends.scoring import choose_sandbox, code_run
from masc.backends.scoring.choose_sandbox import sandbox_of
from masc.backends.scoring.code import passes
from masc.backends.scoring.code_run import run
from masc.backends.scoring.sandbox import Sandbox, container
from masc.dsl.diagnostics import MascError


@pytest.fixture(scope="module")
def walls() -> Sandbox:
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")
    try:
        return sandbox_of("bwrap")
    except MascError as error:
        pytest.skip(f"bubblewrap cannot run here: {error}")


def gives(walls: Sandbox, body: str, wanted: str, seconds: int = 5) -> bool:
    """Whether a function of this body, run inside, returns what this expression says."""
    code = "def f():\n" + "".join(f"    {line}\n" for line in body.splitlines())
    return run(walls, [code], (), (f"assert f() == {wanted}",), ("f",), ("f",), seconds)


def test_it_runs(walls: Sandbox) -> None:
    assert gives(walls, "import json, decimal, sqlite3\nreturn 1", "1")
    assert not gives(walls, "return 2", "1")


def test_unix_sockets_by_path_are_not_there(walls: Sandbox, tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        os.chmod(path, 0o777)
        body = "import socket\ns = socket.socket(socket.AF_UNIX)\ntry:\n    s.connect({!r})\n    return 'out'\nexcept OSError:\n    return 'in'"
        assert gives(walls, body.format(path), "'in'")
        with socket.socket(socket.AF_UNIX) as abstract:
            abstract.bind(f"\0masc-{os.getpid()}")
            abstract.listen()
            assert gives(walls, body.format(f"\0masc-{os.getpid()}"), "'in'")
        folders = (
            "import os\nreturn [p for p in ('/run', '/var', '/home', '/var/run/docker.sock') if os.path.exists(p)]"
        )
        assert gives(walls, folders, "[]")


def test_the_network_is_closed(walls: Sandbox) -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        body = f"import socket\ntry:\n    socket.create_connection(('127.0.0.1', {port}), timeout=1)\n    return 'out'\nexcept OSError:\n    return 'in'"
        assert gives(walls, body, "'in'")


@pytest.mark.parametrize("family", [40, 16, 38, 17, 21, 31])  # vsock, netlink, alg, packet, rds, bluetooth
def test_other_families_of_sockets_are_not_there(walls: Sandbox, family: int) -> None:
    body = (
        "import socket\ntry:\n    socket.socket({}, socket.SOCK_{})\n    return 'out'\nexcept OSError:\n    return 'in'"
    )
    for kind in ("STREAM", "RAW", "SEQPACKET"):
        assert gives(walls, body.format(family, kind), "'in'")
    assert gives(walls, body.format(1, "STREAM"), "'out'")


def test_files_outside_are_not_read_or_changed(walls: Sandbox, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text("secret")
    kept.chmod(0o666)
    tmp_path.chmod(0o777)
    before = kept.stat()
    paths = ["/etc/shadow", "/etc/passwd", str(kept), str(Path.home() / ".bashrc"), "/proc/1/environ", "/sys/kernel"]
    body = f"found = []\nfor path in {paths!r}:\n    try:\n        open(path, 'rb').read()\n        found.append(path)\n    except OSError:\n        pass\nreturn found"
    assert gives(walls, body, "[]")
    acts = [
        f"os.chmod({str(kept)!r}, 0)",
        f"os.chmod({str(tmp_path)!r}, 0)",
        f"os.chmod({str(Path.home())!r}, 0)",
        f"os.utime({str(kept)!r}, (0, 0))",
        f"os.unlink({str(kept)!r})",
        f"open({str(tmp_path / 'new')!r}, 'w')",
        "os.chmod('/usr', 0)",
        "open('/usr/masc', 'w')",
        "open('/tmp/masc', 'w')",
        "open('/dev/shm/masc', 'w')",
        "os.mkdir('/masc')",
        "os.setuid(0)",
        "os.chroot('/')",
        "os.unshare(os.CLONE_NEWUSER) if hasattr(os, 'CLONE_NEWUSER') else os.setuid(0)",
        "os.kill(1, 0) or os.nice(-5)",
    ]
    body = f"import os\nfound = []\nfor act in {acts[:-2] + acts[-1:]!r}:\n    try:\n        exec(act)\n        found.append(act)\n    except OSError:\n        pass\nreturn found"
    assert gives(walls, body, "[]")
    after = kept.stat()
    assert (kept.read_text(), before.st_mode, before.st_mtime) == ("secret", after.st_mode, after.st_mtime)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept"]


def test_the_environment_is_empty(walls: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASC_SECRET", "x")
    assert gives(walls, "import os\nreturn [n for n in os.environ if 'MASC' in n or 'TOKEN' in n or 'SSH' in n]", "[]")
    assert gives(walls, "import os\nreturn len([p for p in os.listdir('/proc') if p.isdigit()]) < 6", "True")


def test_a_daemon_does_not_survive(walls: Sandbox) -> None:
    nap = f"{os.getpid()}.{time.time_ns() % 10**6}1"
    body = (
        "import ctypes, os, subprocess\nif os.fork() == 0:\n    os.setsid()\n    ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)\n"
        f"    if os.fork() == 0:\n        os.execvp('sleep', ['sleep', {nap!r}])\n    os._exit(0)\nreturn 1"
    )
    assert gives(walls, body, "1")
    assert not gives(walls, body.replace("return 1", "while True: pass"), "1", seconds=1)
    deadline = time.monotonic() + 5
    while any(nap.encode() in _read(p) for p in Path("/proc").glob("[0-9]*/cmdline")):
        assert time.monotonic() < deadline, "it is still there"
        time.sleep(0.1)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_files_are_few_and_small(walls: Sandbox) -> None:
    many = "n = 0\ntry:\n    for n in range(20000):\n        open(str(n), 'w').close()\nexcept OSError:\n    pass\nreturn n < 2000"
    assert gives(walls, many, "True")
    large = "n = 0\ntry:\n    for n in range(400):\n        open(str(n), 'w').write('x' * 500000)\nexcept OSError:\n    pass\nreturn n < 100"
    assert gives(walls, large, "True")
    one = "try:\n    open('x', 'w').write('x' * (2 << 20))\n    return 'out'\nexcept OSError:\n    return 'in'"
    assert gives(walls, "import signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n" + one, "'in'")


def test_memory_is_limited_over_all_processes(walls: Sandbox) -> None:
    assert not gives(walls, "x = bytearray(2 << 30)\nreturn 1", "1")
    several = (
        "import os, time\nfor _ in range(6):\n    if os.fork() == 0:\n        x = bytearray(os.urandom(1 << 20)) * 400\n"
        "        time.sleep(30)\n        os._exit(0)\ntime.sleep(8)\nreturn 1"
    )
    assert not gives(walls, several, "1", seconds=15)


def test_memory_is_looked_at_while_the_sides_talk(walls: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that never ends, a byte now and then, is no reason not to look."""
    heard: list[int] = []

    def memory(side: code_run._Side) -> int:
        heard.append(len(side._kept))
        return 1 << 40 if heard[-1] > 50 else 0

    monkeypatch.setattr(code_run._Side, "memory", memory)
    talk = (
        "import os, time\nwhile True:\n    for n in range(3, 64):\n        try: os.write(n, b'[')\n"
        "        except OSError: pass\n    time.sleep(0.01)"
    )
    assert not run(walls, [talk], (), ("f()",), ("f",), ("f",), seconds=2, start=3)
    assert max(heard) > 50


def test_processes_are_few(walls: Sandbox) -> None:
    body = (
        "import os, time\nn = 0\ntry:\n    for n in range(100):\n        if os.fork() == 0:\n            time.sleep(20)\n"
        "            os._exit(0)\nexcept OSError:\n    pass\nreturn n < 40"
    )
    assert gives(walls, body, "True")


def test_where_no_walls_stand_it_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert passes("def f(): return 1", {"test_list": ["assert f() == 1"]}, "none")  # what it finds, it remembers
    monkeypatch.setenv("PATH", str(tmp_path))
    choose_sandbox._tried.cache_clear()
    try:
        for name in ("auto", "bwrap", "docker", "podman"):
            with pytest.raises(MascError) as caught:
                passes("x = 1", {"test_list": ["assert True"]}, name)
            (diagnostic,) = caught.value.diagnostics
            assert diagnostic.code == "E0660"
            assert "--sandbox none" in (diagnostic.hint or "")
        broken = tmp_path / "bwrap"
        broken.write_text("#!/bin/sh\nexit 1\n")
        broken.chmod(0o755)
        choose_sandbox._tried.cache_clear()
        with pytest.raises(MascError, match="cannot make a sandbox here"):
            sandbox_of("auto")
        assert passes("def f(): return 1", {"test_list": ["assert f() == 1"]}, "none")
    finally:
        choose_sandbox._tried.cache_clear()
    with pytest.raises(MascError, match="unknown sandbox"):
        sandbox_of("bwarp")


def test_a_container_gets_its_walls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A stand-in for docker notes how it is called and runs the program at the end of its arguments."""
    import sys

    fake = tmp_path / "docker"
    fake.write_text(
        f'#!{sys.executable}\nimport os, sys\nopen({str(tmp_path / "log")!r}, "a").write(repr(sys.argv[1:-1]) + "\\n")\n'
        'if sys.argv[1] == "run": os.execv(sys.executable, [sys.executable, "-I", "-c", sys.argv[-1]])\n'
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    walls = container("docker")
    assert run(walls, ["def f(): return 1"], (), ("assert f() == 1",), ("f",), ("f",))
    log = (tmp_path / "log").read_text()
    for word in (
        "'--network', 'none'",
        "'--read-only'",
        "'--cap-drop', 'ALL'",
        "'--memory'",
        "'--pids-limit'",
        "'rm', '--force'",
    ):
        assert word in log


@pytest.mark.skipif(shutil.which("docker") is None, reason="docker is not installed")
def test_docker() -> None:
    if subprocess.run(["docker", "info"], capture_output=True, timeout=60).returncode != 0:
        pytest.skip("no docker daemon runs here")
    try:
        walls = sandbox_of("docker")
    except MascError as error:
        pytest.skip(f"docker cannot run a container here: {error}")
    assert gives(walls, "return 1", "1")


def test_no_new_namespaces_keys_or_other_processes_memory(walls: Sandbox) -> None:
    calls = "import ctypes\nlibrary = ctypes.CDLL(None)\n"
    assert gives(walls, calls + "return [library.unshare(flag) for flag in (0x10000000, 0x20000)]", "[-1, -1]")
    assert gives(walls, calls + "return library.ptrace(16, 1, 0, 0)", "-1")
    assert gives(walls, calls + "return library.mount(b'x', b'/scratch', b'tmpfs', 0, b'')", "-1")
    if os.uname().machine == "x86_64":
        assert gives(walls, calls + "return library.syscall(250, 0, -3, 0)", "-1")


def test_without_walls_there_are_limits_still(tmp_path: Path) -> None:
    """`--sandbox none`: the folder, the limits, Landlock where the system has it."""
    walls = sandbox_of("none")
    assert gives(walls, "open('a', 'w').write('x')\nreturn 1", "1")
    assert not gives(walls, "while True: pass", "1", seconds=1)
    assert not gives(walls, "x = bytearray(1 << 40)\nreturn 1", "1")
    version = "import ctypes\nreturn ctypes.CDLL(None).syscall(444, None, ctypes.c_long(0), ctypes.c_long(1)) > 0"
    if gives(walls, version, "True"):
        tmp_path.chmod(0o777)
        write = f"try:\n    open({str(tmp_path / 'x')!r}, 'w')\n    return 'out'\nexcept OSError:\n    return 'in'"
        assert gives(walls, write, "'in'")
