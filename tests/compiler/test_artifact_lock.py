"""One process writes an artifact at a time, and the second is told who does."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from artifacts import program, refusal, save, weights
from masc.compiler.artifact import write_artifact, writing

pytestmark = pytest.mark.usefixtures("no_waiting")


HOLD = """
import sys, time
from pathlib import Path
from masc.compiler.artifact import writing
with writing(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(300)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds `team.masc`."""
    save(tmp_path / "team.masc", "old")
    command = [sys.executable, "-c", HOLD, str(tmp_path / "team.masc"), "--some", "option"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_the_second_is_told_who_holds_it(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    root = tmp_path / "team.masc"
    (tmp_path / "link").symlink_to(root)
    for place in (root, tmp_path / "link"):
        for run in (lambda p=place: save(p, "new"), lambda p=place: write_artifact(p, program(3), force=True)):
            code, message = refusal(run)
            assert code == "E0641"
            assert f"process {holder.pid} on " in message
            assert "--some option" in message
            assert "since 20" in message
    assert weights(root) == {"old"}, "reading needs no lock"
    holder.kill()
    holder.wait()
    save(root, "new")  # what a dead process held is nobody's
    assert weights(root) == {"new"}
    assert not (root / ".lock.json").exists()


def test_whoever_waits_gets_it(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    threading.Timer(0.5, holder.kill).start()
    with writing(tmp_path / "team.masc", wait=60):
        pass


def test_threads_of_one_process(tmp_path: Path) -> None:
    root = tmp_path / "team.masc"
    with writing(root), writing(root):  # once more in the same thread
        save(root, "old")
        found: list[str] = []
        other = threading.Thread(target=lambda: found.append(refusal(lambda: save(root, "new"))[0]))
        other.start()
        other.join()
        assert found == ["E0641"]
    save(root, "new")


def test_other_ranks_know_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    from masc.compiler.artifact import is_other_rank

    for rank, world, expected in [("0", "2", False), ("1", "2", True), ("1", "1", False), ("", "", False)]:
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("WORLD_SIZE", world)
        assert is_other_rank() == expected


def test_a_damaged_note_of_the_holder(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    root = tmp_path / "team.masc"
    for text in ("", "[]", "[" * 100_000, '{"process": "x", "host": 1, "command": [], "since": 0}'):
        (root / ".lock.json").write_text(text)
        assert refusal(lambda: save(root, "new"))[0] == "E0641"
