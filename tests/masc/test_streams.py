"""The command's standard streams: closed, full, read by nobody, of another encoding; files come first."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

MASC = [sys.executable, "-m", "masc"]
ACCENTS = (
    'mas 1\n\nmodel m = "smollm2-135m"\n\nagent a on m {\n  user   "Été {q} 漢字 \N{GRINNING FACE}"\n  answer\n}\n\n'
)
ACCENTS += "graph g(q) -> answer {\n  a\n}\n"


def call(
    *arguments: object, shell: str = "", cwd: Path | None = None, **env: str
) -> subprocess.CompletedProcess[bytes]:
    """shell: what is written behind the command, such as a redirection."""
    words = [*MASC, *map(str, arguments)]
    script = (
        " ".join(["exec", *map(_quoted, words), shell]) if "|" not in shell else " ".join([*map(_quoted, words), shell])
    )
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", script], cwd=cwd, env={**os.environ, **env}, capture_output=True, timeout=120
    )


def _quoted(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"


@pytest.fixture
def accents(tmp_path: Path) -> Path:
    path = tmp_path / "accents.mas"
    path.write_text(ACCENTS, encoding="utf-8")
    return path


# -- encodings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_content_is_utf8_in_any_encoding(accents: Path, encoding: str) -> None:
    """What goes into a file can be read by masc again."""
    env = {"PYTHONIOENCODING": encoding}
    form = call("fmt", "--to", "yaml", accents, **env)
    assert form.returncode == 0, form.stderr
    accents.with_suffix(".yaml").write_bytes(form.stdout)
    back = call("fmt", "--to", "mas", accents.with_suffix(".yaml"), **env)
    assert back.stdout.decode("utf-8") == ACCENTS
    plan = call("compile", "--emit", "plan", accents, **env)
    assert "Été" in plan.stdout.decode("utf-8")
    accents.write_text(ACCENTS.replace("  a\n", "  é é\n"), encoding="utf-8")
    checked = call("check", "--format", "json", accents, **env)
    assert checked.returncode == 1, checked.stderr
    assert json.loads(checked.stdout.decode("utf-8"))
    assert b"internal error" not in checked.stderr
    accents.write_text(ACCENTS.replace("  user   ", "  user "), encoding="utf-8")
    diff = call("fmt", "--diff", accents, **env)
    assert '+  user   "Été' in diff.stdout.decode("utf-8"), diff.stderr


def test_drawings_in_ascii_where_there_is_nothing_else(accents: Path) -> None:
    drawn = call("draw", accents, PYTHONIOENCODING="ascii")
    assert drawn.returncode == 0, drawn.stderr
    assert b"\\u25" not in drawn.stdout, "boxes are drawn with characters that are there"
    assert b"+--" in drawn.stdout
    assert "┌" in call("draw", accents, PYTHONIOENCODING="utf-8").stdout.decode("utf-8")


def test_a_message_in_any_encoding(accents: Path) -> None:
    accents.write_text(ACCENTS.replace("  a\n", "  Été\n"), encoding="utf-8")
    checked = call("check", accents, PYTHONIOENCODING="ascii")
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
        done = subprocess.run([*MASC, "check", "--format", form, path], capture_output=True, timeout=120)
        assert done.returncode == 1
        assert b"internal error" not in done.stderr
        if form != "text":
            assert json.loads(done.stdout)
        if form == "sarif":
            assert b"%FF%FE.mas" in done.stdout
    with open(path, "w") as file:
        file.write(ACCENTS)
    for words in (["check"], ["draw"], ["compile"], ["compile", "--emit", "plan"], ["fmt"], ["fmt", "--check"]):
        done = subprocess.run([*MASC, *words, path], capture_output=True, timeout=120)
        assert done.returncode == 0, done.stderr


# -- streams that fail ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [("explain", "E0201"), ("schema",), ("--help",)])
def test_a_full_disk_behind_standard_output(words: tuple[str, ...], unbuffered: str) -> None:
    done = call(*words, shell=">/dev/full", PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == 3
    assert b"E0790" in done.stderr
    assert b"ignored" not in done.stderr
    assert b"internal" not in done.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_nobody_reads_standard_output(unbuffered: str) -> None:
    done = call("schema", shell="| true; exit ${PIPESTATUS[0]}", PYTHONUNBUFFERED=unbuffered)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize("shell", [">&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_closed_streams(accents: Path, shell: str) -> None:
    for words in (("check", accents), ("compile", accents)):
        done = call(*words, shell=shell)
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
    done = call(*words, shell=">&-", cwd=accents.parent)
    assert done.returncode == 3
    assert b"E0790" in done.stderr
    assert b"cannot write to standard output: it is closed" in done.stderr
    assert call(*words, shell=">&- 2>&-", cwd=accents.parent).returncode == 3


def test_an_answer_that_nobody_can_get_is_no_success(folder: Path) -> None:
    for shell in (">&-", ">/dev/full"):
        done = call("run", "--input", "code=1", shell=shell, cwd=folder, OMP_NUM_THREADS="1")
        assert (done.returncode, b"E0790" in done.stderr) == (3, True), done.stderr


def test_errors_need_no_standard_error(tmp_path: Path) -> None:
    for shell in ("2>/dev/full", "2>&-"):
        assert call("check", tmp_path / "missing.mas", shell=shell).returncode == 1


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
    clean = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR"}}
    done = subprocess.Popen(
        [*MASC, "check", "x.mas"], cwd=tmp_path, stderr=follower, env={**clean, "TERM": "xterm", **env}
    )
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
    assert done.wait(60) == 1
    assert (b"\x1b[1;31m" in shown) == coloured


def test_colours_can_be_forced(tmp_path: Path) -> None:
    (tmp_path / "x.mas").write_text("mas 1\nagent\n")
    assert b"\x1b[" in call("check", "x.mas", cwd=tmp_path, FORCE_COLOR="1").stderr
    assert b"\x1b[" not in call("check", "x.mas", cwd=tmp_path).stderr


# -- files first ------------------------------------------------------------------------------------------------------


def test_files_are_written_before_anything_is_printed(folder: Path) -> None:
    jobs: list[tuple[tuple[object, ...], Path]] = [
        (("eval", "--out", "eval.json", "--items", "items.jsonl"), folder / "eval.json"),
        (("audit", "-o", "audit.json", "--watched", "1"), folder / "audit.json"),
        (("compare", "--rows", "team", "--set", "steps=1", "--samples", "0"), folder / "courier.compare" / "table.csv"),
    ]
    for (words, written), shell in zip(jobs, (">/dev/full", ">&-", ">&-"), strict=True):
        done = call(*words, shell=shell, cwd=folder, PYTHONUNBUFFERED="1", OMP_NUM_THREADS="1")
        assert (done.returncode, b"E0790" in done.stderr) == (3, True), done.stderr
        assert written.stat().st_size > 0
    assert (folder / "items.jsonl").stat().st_size > 0
