"""What is written over stays the same file; what is new is as the umask says; a failure leaves the old content."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from masc.compiler.files import writing
from masc.compiler.files.writing import atomic_write, check_file, replacing
from masc.dsl.diagnostics import MascError


@pytest.fixture(params=[0o022, 0o027, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_file_is_as_the_umask_says(tmp_path: Path, umask: int) -> None:
    atomic_write(tmp_path / "x", "new")
    assert mode(tmp_path / "x") == 0o666 & ~umask
    with replacing(tmp_path / "y") as temporary:  # by a library that makes its own file, readable by nobody else
        temporary.unlink()
        temporary.touch(0o600)
    assert mode(tmp_path / "y") == 0o666 & ~umask


@pytest.mark.parametrize("bits", [0o600, 0o640, 0o664, 0o755])
def test_permissions_stay(tmp_path: Path, bits: int) -> None:
    path = tmp_path / "x"
    path.write_text("old")
    path.chmod(bits)
    atomic_write(path, "new")
    assert (mode(path), path.read_text()) == (bits, "new")


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    target = tmp_path / "there" / "x"
    target.write_text("old")
    (tmp_path / "one").symlink_to(Path("there") / "x")
    (tmp_path / "two").symlink_to("one")
    atomic_write(tmp_path / "two", "new")
    assert (tmp_path / "two").is_symlink()
    assert (tmp_path / "one").is_symlink()
    assert target.read_text() == "new"
    (tmp_path / "ahead").symlink_to(Path("there") / "later")  # to a file that is not there yet
    atomic_write(tmp_path / "ahead", "made")
    assert (tmp_path / "ahead").is_symlink()
    assert sorted(os.listdir(tmp_path / "there")) == ["later", "x"]


def test_other_names_of_a_file_show_the_new_content(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("old, and long")
    os.link(tmp_path / "x", tmp_path / "y")
    for text in ("new", "new, and longer than before"):
        atomic_write(tmp_path / "x", text)
        assert (tmp_path / "y").read_text() == text
    assert sorted(os.listdir(tmp_path)) == ["x", "y"]


def test_an_owner_that_cannot_be_given_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    path.write_text("old")
    before = path.stat()
    # As if the file were another user's that may be written to: a renamed one would be ours.
    monkeypatch.setattr(writing, "_made_alike", lambda *_: False)
    atomic_write(path, "new")
    assert path.read_text() == "new"
    assert path.stat().st_ino == before.st_ino


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
def test_an_owner_stays(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_text("old")
    os.chown(path, 1234, 2345)
    atomic_write(path, "new")
    assert (path.stat().st_uid, path.stat().st_gid) == (1234, 2345)


def test_what_is_no_file_is_not_written_over(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "astray").symlink_to(Path("nowhere") / "x")
    for name in ("pipe", "circle", "astray", "."):
        for write in (lambda path: atomic_write(path, "x"), check_file):
            if (name, write) == ("astray", check_file):
                continue  # its folder could be made; who writes does not make it
            with pytest.raises(MascError, match="E0612"):
                write(tmp_path / name)
    assert not (tmp_path / "nowhere").exists()
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_what_fails_leaves_the_old_content_and_no_traces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").write_text("old")
    with pytest.raises(MascError, match="half of a character"):
        atomic_write(tmp_path / "x", "\ud83d")
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "x") as temporary:
        temporary.write_text(str(1 // 0))
    os.link(tmp_path / "x", tmp_path / "y")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(MascError, match="No space left"):
        atomic_write(tmp_path / "x", "new and longer")
    assert (tmp_path / "x").read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["x", "y"]
    atomic_write(tmp_path / ("n" * 250), "a long name")
