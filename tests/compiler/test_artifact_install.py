"""Artifacts while others write them, and writers that are killed."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from artifacts import files, program, refusal, save, weights
from masc.compiler.artifact import read_artifact, read_weights, write_artifact, writing
from masc.compiler.artifact.layout import Layout
from masc.compiler.artifact.read import wait_for_install
from masc.compiler.files.writing import atomic_write

pytestmark = pytest.mark.usefixtures("no_waiting")


# -- readers ----------------------------------------------------------------------------------------------------------


def test_readers_beside_a_writer_never_see_a_mix(tmp_path: Path) -> None:
    root = tmp_path / "team.masc"
    save(root, "0")
    ended = threading.Event()

    failed: list[BaseException] = []

    def write() -> None:
        number = 0
        try:
            while not ended.is_set():
                number += 1
                save(root, str(number))
        except BaseException as error:
            failed.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen = []
        for _ in range(80):
            (number,) = weights(root)
            seen.append(int(number))
    finally:
        ended.set()
        writer.join()
    assert not failed, "a reader was in the writer's way"
    assert seen == sorted(seen)
    assert seen[-1] > seen[0], "nothing was written meanwhile"


def test_a_plan_that_changes_beside_a_reader(tmp_path: Path) -> None:
    root = tmp_path / "team.masc"
    write_artifact(root, program(0))
    ended = threading.Event()

    def write() -> None:
        number = 0
        while not ended.is_set():
            number += 1
            write_artifact(root, program(number % 50))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        found = {read_artifact(root).manifest.fingerprint for _ in range(60)}
    finally:
        ended.set()
        writer.join()
    assert len(found) > 1


def test_weights_of_a_graph_that_is_no_longer_there(tmp_path: Path) -> None:
    root = tmp_path / "team.masc"
    save(root, "old")
    before = read_artifact(root)
    write_artifact(root, program(3), force=True)
    assert refusal(lambda: read_weights(before))[0] == "E0642"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_artifact_that_may_only_be_read(tmp_path: Path) -> None:
    root = tmp_path / "team.masc"
    save(root, "old")
    root.chmod(0o555)
    try:
        assert weights(root) == {"old"}
    finally:
        root.chmod(0o755)


# -- writers that are killed ------------------------------------------------------------------------------------------


def killed_at(number: int, run: Callable[[], object]) -> bool:
    """Run it in a process that ends, as by SIGKILL, before its `number`th change of a folder; whether it came so far.
    Nothing of what would clean up runs."""
    child = os.fork()
    if child == 0:
        left = [number]

        def counted(function: Callable[..., object]) -> Callable[..., object]:
            def call(*arguments: object, **options: object) -> object:
                left[0] -= 1
                if left[0] < 0:
                    os._exit(9)
                return function(*arguments, **options)

            return call

        try:
            for name in ("rename", "replace", "unlink", "rmdir", "mkdir", "remove"):
                setattr(os, name, counted(getattr(os, name)))
            run()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def points(run: Callable[[], object], prepare: Callable[[], object]) -> Iterator[int]:
    for number in range(1000):
        prepare()
        if not killed_at(number, run):
            return
        yield number
    raise AssertionError("it never ended")


def test_a_killed_save_leaves_the_old_or_the_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For whoever comes next: a writer, a reader, and before it a reader where nothing may be written."""
    root, template, beside = (tmp_path / name for name in ("team.masc", "template", "beside.masc"))
    save(template, "old")

    def prepare() -> None:
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(template, root)

    found = []
    for _ in points(lambda: save(root, "new"), prepare):
        shutil.rmtree(beside, ignore_errors=True)
        shutil.copytree(root, beside)
        with monkeypatch.context() as nobody:
            nobody.setattr("masc.compiler.artifact.read.os.access", lambda *_: False)
            words = weights(beside)
        write_artifact(root, program())
        assert words == weights(root) == weights(beside)
        found += words
        for one in (root, beside):
            assert read_artifact(one).manifest.trained
            save(one, "last")
            assert weights(one) == {"last"}
            names = {name for name in files(one) if not name.startswith(("adapters/", "channels"))}
            assert names == {".lock", "manifest.json", "plan.json", "team.mas"}, "nothing is left of the killed one"
    assert found == sorted(found, reverse=True)  # first the old, then the new
    assert set(found) == {"old", "new"}


def test_a_killed_first_compile_is_no_obstacle(tmp_path: Path) -> None:

    root = tmp_path / "saved"

    def prepare() -> None:
        shutil.rmtree(root, ignore_errors=True)

    for _ in points(lambda: write_artifact(root, program()), prepare):
        write_artifact(root, program())
        assert sorted(files(root)) == [".lock", "manifest.json", "plan.json", "team.mas"]


def test_a_killed_compile_of_another_graph(tmp_path: Path) -> None:

    root, template = tmp_path / "team.masc", tmp_path / "template"
    save(template, "old")
    atomic_write(template / "notes.txt", "mine")

    def prepare() -> None:
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(template, root)

    for _ in points(lambda: write_artifact(root, program(5), force=True), prepare):
        artifact = read_artifact(root)
        assert artifact.manifest.trained == (artifact.plan == program().plan)
        read_weights(artifact)
        write_artifact(root, program(6), force=True)
        assert sorted(files(root)) == [".lock", "manifest.json", "notes.txt", "plan.json", "team.mas"]


def test_a_failed_save_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "team.masc"
    save(root, "old")
    before = files(root)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("masc.compiler.artifact.install.atomic_write", full)
        assert refusal(lambda: save(root, "new"))[0] == "E0612"
    assert files(root) == before


def test_what_killed_writers_left_goes_and_nothing_else(tmp_path: Path) -> None:
    root = tmp_path / "team.masc"
    save(root, "old")
    ours = [".masc-staged-77/x", ".tmp-weights-9/adapters/x", ".tmp-weights-old-9/x", ".manifest.json.0a1b2c3d.tmp"]
    theirs = [".masc-staged-mine/x", ".tmp-weights-mine", ".notes.0a1b2c3d.tmp", "x.tmp"]
    for name in ours + theirs:
        atomic_write(root / name, "x")
    assert weights(root) == {"old"}
    assert all((root / name).exists() for name in ours), "whoever reads deletes nothing"
    save(root, "new")
    assert not any((root / name).exists() for name in ours)
    assert all((root / name).exists() for name in theirs)


def test_settling_waits_for_a_live_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "team.masc"
    save(root, "old")
    with writing(root):
        (root / ".masc-install").mkdir()

        def later() -> None:
            time.sleep(0.2)
            (root / ".masc-install").rmdir()

        mover = threading.Thread(target=later)
        mover.start()
        reader = threading.Thread(target=lambda: wait_for_install(Layout(root)))
        reader.start()
        reader.join(20)
        assert not reader.is_alive()
        assert not (root / ".masc-install").exists()
        mover.join()
