"""Reading rows: what a file may hold, and where an error is said to be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from masc.backends.torch.data import read_rows
from masc.dsl.diagnostics import Diagnostic, MascError
from masc.dsl.render import render

COLUMNS = ("q", "answer")


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "rows.jsonl"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def wrong(folder: Path, text: str | bytes) -> tuple[Diagnostic, ...]:
    with pytest.raises(MascError) as caught:
        read_rows(write(folder, text), COLUMNS)
    render(caught.value.diagnostics).encode()  # whatever the file holds, what is said of it can be printed
    return caught.value.diagnostics


GOOD = '{"q": "one", "answer": 1}'


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n", "\r\n \t\r\n"])
@pytest.mark.parametrize("last", [True, False])
def test_line_ends_and_blank_lines(tmp_path: Path, end: str, last: bool) -> None:
    text = end.join([GOOD, GOOD]) + end * last
    assert read_rows(write(tmp_path, text), COLUMNS) == [{"q": "one", "answer": 1}] * 2


@pytest.mark.parametrize("char", ["\u2028", "\u2029", "\u0085", "\x7f", "😀"])
def test_a_string_may_hold_what_other_formats_call_line_ends(tmp_path: Path, char: str) -> None:
    rows = [{"q": f"a{char}b", "answer": char}, {"q": "c", "answer": 2.5}]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    assert read_rows(write(tmp_path, text), COLUMNS) == rows
    broken = wrong(tmp_path, text + "{\n")
    assert [(d.code, d.span and d.span.line) for d in broken] == [("E0602", 3)]


def test_escaped_pairs_are_characters(tmp_path: Path) -> None:
    assert read_rows(write(tmp_path, r'{"q": "\ud83d\ude00", "answer": true}'), COLUMNS) == [
        {"q": "😀", "answer": True}
    ]


def test_a_byte_order_mark_is_fine(tmp_path: Path) -> None:
    mark = b"\xef\xbb\xbf"
    assert len(read_rows(write(tmp_path, mark + GOOD.encode()), COLUMNS)) == 1
    assert "line 2 " in wrong(tmp_path, mark + GOOD.encode() + b"\n\xff")[0].message


@pytest.mark.parametrize(
    ("line", "code", "told", "column"),
    [
        ('{"q": "one", "answer": }', "E0602", "line 2 is not JSON", 24),
        ('{"q": "one"', "E0602", "line 2 is not JSON", 12),
        ('["one", 1]', "E0602", "not a JSON object", 1),
        ("12", "E0602", "not a JSON object", 1),
        (GOOD + GOOD, "E0602", "Extra data", 26),
        ('{"q": "one", "answer": NaN}', "E0602", "NaN", 1),
        ('{"q": "one", "answer": -Infinity}', "E0602", "-Infinity", 1),
        ('{"q": "one", "answer": 1e999}', "E0602", "too large", 1),
        ('{"q": "one", "answer": ' + "7" * 5000 + "}", "E0602", "4300 digits", 1),
        ('{"q": ' + "[" * 100_000 + "}", "E0602", "too deeply", 1),
        (r'{"q": "\ud800", "answer": 1}', "E0607", "`q` of line 2", 1),
        (r'{"q": "one", "answer": 1, "more": "\udc00\ud83d"}', "E0607", "`more` of line 2", 1),
        (r'{"q": "one", "answer": 1, "\ud800": 1}', "E0607", r"`\ud800` of line 2", 1),
        ('{"q": "one"}', "E0604", "no column `answer`", 1),
        ('{"q": null, "answer": 1}', "E0607", "`q` of line 2 is null", 1),
        ('{"q": "one", "answer": ["a"]}', "E0607", "`answer` of line 2 is list", 1),
    ],
)
def test_an_error_says_where_it_is(tmp_path: Path, line: str, code: str, told: str, column: int) -> None:
    for end in ("\n", "\r\n"):
        (found,) = wrong(tmp_path, f"{GOOD}{end}{line}{end}{GOOD}{end}")
        assert found.code == code
        assert told in found.message
        assert found.span is not None
        assert (found.span.line, found.span.column) == (2, column)
        assert found.span.end <= len(found.span.source.text)


def test_a_misspelt_column_has_a_hint(tmp_path: Path) -> None:
    assert wrong(tmp_path, '{"q": "one", "anser": 1}')[0].hint == "did you mean `anser`?"


def test_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    (found,) = wrong(tmp_path, GOOD.encode() + b'\n{"q": "\xe9"}\n')
    assert found.code == "E0602"
    assert "line 2 " in found.message


@pytest.mark.parametrize("text", ["", "\n", "\r\n\n  \n"])
def test_no_rows(tmp_path: Path, text: str) -> None:
    assert wrong(tmp_path, text)[0].code == "E0605"


@pytest.mark.parametrize("name", [".", "missing.jsonl", "rows\0.jsonl"])
def test_what_cannot_be_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(MascError, match="E0601: cannot read"):
        read_rows(tmp_path / name, COLUMNS)


def test_a_long_file_full_of_errors_stops_at_ten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read past the tenth."""
    from masc.backends.torch import data

    read: list[str] = []
    original = data._row
    monkeypatch.setattr(data, "_row", lambda line, *rest: (read.append(line), original(line, *rest))[1])
    assert len(wrong(tmp_path, "{}\n" * 1000)) == 10
    assert len(read) == 5  # each lacks both columns
    assert len(wrong(tmp_path, f"{GOOD}\n" * 100 + "{\n" * 1000)) == 10
    assert len(read) == 5 + 110
