"""The command's standard streams: closed, full, read by nobody, of another encoding; files come first."""

from __future__ import annotations

import json
import os
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from warm import heavy, warm

ACCENTS = (
    'mas 1\n\nmodel m = "smollm2-135m"\n\nagent a on m {\n  user   "Été {q} 漢字 \N{GRINNING FACE}"\n  answer\n}\n\n'
)
ACCENTS += "graph g(q) -> answer {\n  a\n}\n"


def call(*words: object, cwd: Path | None = None, encoding: str = "utf-8", **streams: str) -> CompletedProcess[bytes]:
    """encoding: of the standard streams; streams: where they lead (see `Warm.call`)."""
    return warm(PYTHONIOENCODING=encoding).call(*words, cwd=cwd, **streams)


@pytest.fixture
def accents(tmp_path: Path) -> Path:
    path = tmp_path / "accents.mas"
    path.write_text(ACCENTS, encoding="utf-8")
    return path


# -- encodings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_content_is_utf8_in_any_encoding(accents: Path, encoding: str) -> None:
    """What goes into a file can be read by masc again."""
    form = call("fmt", "--to", "yaml", accents, encoding=encoding)
    assert form.returncode == 0, form.stderr
    accents.with_suffix(".yaml").write_bytes(form.stdout)
    back = call("fmt", "--to", "mas", accents.with_suffix(".yaml"), encoding=encoding)
    assert back.stdout.decode("utf-8") == ACCENTS
    plan = call("compile", "--emit", "plan", accents, encoding=encoding)
    assert "Été" in plan.stdout.decode("utf-8")
    accents.write_text(ACCENTS.replace("  a\n", "  é é\n"), encoding="utf-8")
    checked = call("check", "--format", "json", accents, encoding=encoding)
    assert checked.returncode == 1, checked.stderr
    assert json.loads(checked.stdout.decode("utf-8"))
    assert b"internal error" not in checked.stderr
    accents.write_text(ACCENTS.replace("  user   ", "  user "), encoding="utf-8")
    diff = call("fmt", "--diff", accents, encoding=encoding)
    assert '+  user   "Été' in diff.stdout.decode("utf-8"), diff.stderr


def test_drawings_in_ascii_where_there_is_nothing_else(accents: Path) -> None:
    drawn = call("draw", accents, encoding="ascii")
    assert drawn.returncode == 0, drawn.stderr
    assert b"\\u25" not in drawn.stdout, "boxes are drawn with characters that are there"
    assert b"+--" in drawn.stdout
    assert "┌" in call("draw", accents, encoding="utf-8").stdout.decode("utf-8")


def test_a_message_in_any_encoding(accents: Path) -> None:
    accents.write_text(ACCENTS.replace("  a\n", "  Été\n"), encoding="utf-8")
    checked = call("check", accents, encoding="ascii")
    assert checked.returncode == 1
    assert b"\\xc9t\\xe9" in checked.stderr


def test_a_file_name_does_not_control_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "a\x1b]0;title\x07.mas"
    for text in (ACCENTS, "mas 1\nagent\n"):
        path.write_text(text, encoding="utf-8")
        checked = call("check", path)
        assert b".mas" in checked.stderr
        assert b"\x1b" not in checked.stderr


def test_a_file_name_that_is_no_text(tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/\xff\xfe.mas"
    with open(path, "w") as file:
        file.write("mas 1\nagent\n")
    for form in ("text", "json", "sarif"):
        done = call("check", "--format", form, path)
        assert done.returncode == 1
        assert b"internal error" not in done.stderr
        if form != "text":
            assert json.loads(done.stdout)
        if form == "sarif":
            assert b"%FF%FE.mas" in done.stdout
    with open(path, "w") as file:
        file.write(ACCENTS)
    for words in (["check"], ["draw"], ["compile"], ["compile", "--emit", "plan"], ["fmt"], ["fmt", "--check"]):
        done = call(*words, path)
        assert done.returncode == 0, done.stderr


# -- streams that fail ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [("explain", "E0201"), ("schema",), ("--help",)])
def test_a_full_disk_behind_standard_output(words: tuple[str, ...], unbuffered: str) -> None:
    done = warm(PYTHONUNBUFFERED=unbuffered).call(*words, stdout="/dev/full")
    assert done.returncode == 3
    assert b"E0790" in done.stderr
    assert b"ignored" not in done.stderr
    assert b"internal" not in done.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_nobody_reads_standard_output(unbuffered: str) -> None:
    done = warm(PYTHONUNBUFFERED=unbuffered).call("schema", stdout="nobody")
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("streams", [("stdout",), ("stdout", "stderr"), ("stdin", "stdout", "stderr")], ids=" ".join)
def test_closed_streams(accents: Path, streams: tuple[str, ...]) -> None:
    for words in (("check", accents), ("compile", accents)):
        done = call(*words, **dict.fromkeys(streams, "closed"))
        assert done.returncode == 0, done.stderr
        assert b"internal error" not in done.stderr
    assert (accents.with_suffix(".masc") / "plan.json").read_text().startswith("{")


@pytest.mark.parametrize(
    "words",
    [
        ("schema",),
        ("explain", "E0201"),
        ("models", "list"),
        ("--help",),
        ("--version",),
        ("draw",),
        ("compile", "--emit", "plan"),
        ("check", "--format", "json"),
        ("fmt", "--to", "yaml"),
    ],
    ids=" ".join,
)
def test_a_result_that_nobody_can_get_is_no_success(accents: Path, words: tuple[str, ...]) -> None:
    done = call(*words, stdout="closed", cwd=accents.parent)
    assert done.returncode == 3
    assert b"E0790" in done.stderr
    assert b"cannot write to standard output: it is closed" in done.stderr
    assert call(*words, stdout="closed", stderr="closed", cwd=accents.parent).returncode == 3


def test_an_answer_that_nobody_can_get_is_no_success(folder: Path) -> None:
    for stdout in ("closed", "/dev/full"):
        done = heavy().call("run", "--input", "code=1", stdout=stdout, cwd=folder)
        assert (done.returncode, b"E0790" in done.stderr) == (3, True), done.stderr


def test_errors_need_no_standard_error(tmp_path: Path) -> None:
    for stderr in ("/dev/full", "closed"):
        assert call("check", tmp_path / "missing.mas", stderr=stderr).returncode == 1


# -- colours ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "coloured"),
    [
        ({}, True),
        ({"NO_COLOR": "1"}, False),
        ({"NO_COLOR": ""}, True),
        ({"TERM": "dumb"}, False),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
    ],
)
def test_colours_on_a_terminal(tmp_path: Path, env: dict[str, str], coloured: bool) -> None:
    import pty

    (tmp_path / "x.mas").write_text("mas 1\nagent\n")
    leader, follower = pty.openpty()
    done = warm().call("check", "x.mas", cwd=tmp_path, stderr=os.ttyname(follower), env={"TERM": "xterm", **env})
    os.close(follower)
    shown = b""
    while True:
        try:
            part = os.read(leader, 65536)
        except OSError:
            break
        if not part:
            break
        shown += part
    os.close(leader)
    assert done.returncode == 1
    assert (b"\x1b[1;31m" in shown) == coloured


def test_colours_can_be_forced(tmp_path: Path) -> None:
    (tmp_path / "x.mas").write_text("mas 1\nagent\n")
    assert b"\x1b[" in warm().call("check", "x.mas", cwd=tmp_path, env={"FORCE_COLOR": "1"}).stderr
    assert b"\x1b[" not in warm().call("check", "x.mas", cwd=tmp_path).stderr


# -- files first ------------------------------------------------------------------------------------------------------


def test_files_are_written_before_anything_is_printed(folder: Path) -> None:
    jobs: list[tuple[tuple[object, ...], Path]] = [
        (("eval", "--out", "eval.json", "--items", "items.jsonl"), folder / "eval.json"),
        (("audit", "-o", "audit.json", "--watched", "1"), folder / "audit.json"),
        (("compare", "--rows", "team", "--set", "steps=1", "--samples", "0"), folder / "courier.compare" / "table.csv"),
    ]
    for (words, written), stdout in zip(jobs, ("/dev/full", "closed", "closed"), strict=True):
        done = heavy().call(*words, stdout=stdout, cwd=folder)
        assert (done.returncode, b"E0790" in done.stderr) == (3, True), done.stderr
        assert written.stat().st_size > 0
    assert (folder / "items.jsonl").stat().st_size > 0
