"""Files, the text of diagnostics, and the explanations."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest

from masc.compiler.artifact import locate
from masc.compiler.pipeline import compile_file
from masc.dsl.diagnostics import Diagnostic, Label, MascError
from masc.dsl.explain import codes, explain
from masc.dsl.limits import FILE, PROGRAM
from masc.dsl.read import read, read_source
from masc.dsl.regular import TooLargeError, read_regular
from masc.dsl.render import render, to_json
from masc.dsl.source import Source, Span

MINE = [code for code in codes() if code.startswith("E01")]


def test_files(tmp_path: Path) -> None:
    good = tmp_path / "relay.mas"
    good.write_bytes(b'\xef\xbb\xbfmas 1\r\nmodel m = "x"\r\n')
    file, diagnostics, source = read(good)
    assert (file is not None, diagnostics) == (True, [])
    assert source == Source(str(good), 'mas 1\r\nmodel m = "x"\r\n', marked=True)
    (tmp_path / "a.yaml").write_text("mas: 1\nmodels: {m: x}")
    assert read(tmp_path / "a.yaml")[0] == file


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "relay.mas").write_text("mas 1")
    (tmp_path / "latin.mas").write_bytes("mas 1\n# größe".encode("latin-1"))
    (tmp_path / "folder.mas").mkdir()
    found = {}
    for name in (
        "realy.mas",
        "folder.mas",
        "latin.mas",
        "relay.txt",
        "a\0b.mas",
        "x" * 5000 + ".mas",
        "relay.mas/x.mas",
    ):
        file, (diagnostic,), source = read(tmp_path / name)
        assert (file, source) == (None, None)
        found[name[:10]] = (diagnostic.code, diagnostic.hint)
    assert [code for code, _ in found.values()] == ["E0130", "E0131", "E0132", "E0133", "E0134", "E0134", "E0134"]
    assert found["realy.mas"][1] == "did you mean `relay.mas`?"


def test_rendering() -> None:
    source = Source("r.mas", "mas 1\n\tagent 計画 on m\n\n\nagent b on m\n")
    label = Label(Span(source, 29, 30), "first\x1b defined here")
    wrong = Diagnostic("E0203", "twice", Span(source, 13, 15), (label,), "rename one")
    plain = Diagnostic("W0601", "nothing to point at")
    assert render([wrong, plain]) == (
        "error[E0203]: twice\n"
        " --> r.mas:2:8\n"
        "  |\n"
        "2 |     agent 計画 on m\n"
        "  |           ^^^^\n"
        "...\n"
        "5 | agent b on m\n"
        "  |       - first? defined here\n"
        "  = hint: rename one\n"
        "\n"
        "warning[W0601]: nothing to point at\n"
    )
    assert "\x1b[1;31merror[E0203]\x1b[0m" in render([wrong], color=True)


def test_rendering_at_the_end_and_over_lines() -> None:
    source = Source("r.mas", "ab\ncd")
    text = render([Diagnostic("E0105", "end", Span(source, 5, 5)), Diagnostic("E0105", "both", Span(source, 1, 5))])
    assert "2 | cd\n  |   ^\n" in text
    assert "1 | ab\n  |  ^\n" in text


def test_json() -> None:
    source = Source("r.mas", "ab\ncd")
    found = to_json([Diagnostic("E0105", "end", Span(source, 3, 5), (Label(Span(source, 0, 1), "x"),), "h")])
    assert json.loads(json.dumps(found)) == [
        {
            "code": "E0105",
            "severity": "error",
            "message": "end",
            "path": "r.mas",
            "start": {"line": 2, "column": 1, "offset": 3},
            "end": {"line": 2, "column": 3, "offset": 5},
            "labels": [
                {
                    "text": "x",
                    "path": "r.mas",
                    "start": {"line": 1, "column": 1, "offset": 0},
                    "end": {"line": 1, "column": 2, "offset": 1},
                }
            ],
            "hint": "h",
        }
    ]


@pytest.mark.parametrize("code", MINE)
def test_explanations(code: str) -> None:
    entry = codes()[code]
    page = explain(code.lower())
    assert page is not None
    assert page.startswith(f"{code}: {entry.title}")
    assert entry.text
    if code >= "E0130":
        return  # files, not texts: test_files_that_cannot_be_read
    assert entry.wrong
    assert entry.right
    path = f"example.{entry.language}"
    assert code in [diagnostic.code for diagnostic in read_source(Source(path, entry.wrong))[1]]
    assert read_source(Source(path, entry.right))[1] == []


def test_no_such_code() -> None:
    assert explain("E9999") is None


@pytest.mark.parametrize("kind", ["pipe", "device", "socket", "too large", "of no size", "loop"])
def test_only_regular_files_of_a_sensible_size_are_read(kind: str, tmp_path: Path) -> None:
    """None of these is waited for, and none is read without end."""
    path = tmp_path / "x.mas"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(os.path.relpath(path))  # the whole path may be too long for a socket's name
    elif kind == "too large":
        with path.open("wb") as file:
            file.truncate(1 << 40)
    elif kind == "of no size":
        path.symlink_to("/proc/self/mem")
    else:
        path.symlink_to(path)
    file_, (diagnostic,), source = read(path)
    assert (file_, source) == (None, None)
    assert diagnostic.code == ("E0215" if kind == "too large" else "E0134")
    main = tmp_path / "main.mas"
    main.write_text('mas 1\nimport "x.mas" (a)\n')
    assert diagnostic.code in {d.code for d in compile_file(main).diagnostics}
    with pytest.raises(MascError) as refused:
        compile_file(locate(path)).require()
    wanted = "E0515" if kind == "loop" else diagnostic.code  # a link that leads nowhere is told before it is opened
    assert wanted in {d.code for d in refused.value.diagnostics}


def test_what_the_system_says_of_a_size_is_not_trusted(tmp_path: Path) -> None:
    assert len(read_regular("/proc/self/status", 1 << 20)) > 0
    with pytest.raises(TooLargeError):
        read_regular("/proc/self/status", 8)


def test_a_file_that_is_exchanged_after_it_was_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.mas").write_text("mas 1")
    regular = os.stat(tmp_path / "x.mas")
    os.mkfifo(tmp_path / "pipe.mas")
    monkeypatch.setattr("masc.dsl.regular.os.stat", lambda path: regular)
    with pytest.raises(OSError, match="it is a pipe"):
        read_regular(tmp_path / "pipe.mas", 100)


def test_texts_that_were_not_read_from_a_file_have_the_same_limit() -> None:
    file, (diagnostic,) = read_source(Source("x.mas", "mas 1\n#" + "x" * FILE))
    assert (file, diagnostic.code) == (None, "E0215")


def test_a_program_of_many_large_files(tmp_path: Path) -> None:
    names = "abcde"
    for name in names:
        (tmp_path / f"{name}.mas").write_text(f'mas 1\nmodel {name} = "x/{"y" * (PROGRAM // 4 - 40)}"\n')
    main = tmp_path / "main.mas"
    main.write_text("mas 1\n" + "".join(f'import "{name}.mas" ({name})\n' for name in names))
    found = [d for d in compile_file(main).diagnostics if d.code == "E0215"]
    assert [d.span.text for d in found if d.span] == ['"d.mas"']


def test_what_is_said_of_long_names_and_texts_is_short() -> None:
    long, prose = "x" * 5000, "and so on " * 40
    source = Source("a.mas", f"{long}\n")
    for name in (f"`{long}`", long, f'the text "{long} {long}"', f"`{long} {long}`"):
        told = Diagnostic(
            "E0201", f"no {name} is here", Span(source, 0, 5000), (Label(Span(source, 0, 9), name),), name
        )
        text = render([told])
        assert max(map(len, text.splitlines())) < 300
        assert "is here" in text
        assert to_json([told])[0]["message"] == told.message
    told = Diagnostic("E0201", f"`a` {prose}`b` {prose}", None)
    assert render([told]) == f"error[E0201]: {told.message}\n"


@pytest.mark.parametrize("char", ["\u202e", "\u2066", "\u200f", "\x1b", "\x9b", "\u2028"])
def test_no_text_and_no_path_controls_the_terminal(char: str) -> None:
    source = Source(f"a{char}.mas", f'user "{char}" sendr\n')
    at = source.text.index("sendr")
    text = render([Diagnostic("E0201", f"no {char}", Span(source, at, at + 5), hint=char)])
    assert char not in text
    line, carets = text.splitlines()[3:5]
    assert line.index("sendr") == carets.index("^^^^^")
