"""Reading rows: what a file may hold, and where an error is said to be."""

from __future__ import annotations

import bz2
import copy
import csv
import decimal
import gzip
import io
import json
import lzma
import math
import os
import pickle
import tarfile
from pathlib import Path

import numpy
import pytest

from masc.backends.torch.data.check import read_rows
from masc.backends.torch.data.formats import entries
from masc.backends.torch.data.values import text_of
from masc.backends.torch.model.prompts import value
from masc.dsl.diagnostics import Diagnostic, MascError
from masc.dsl.render import render
from support import chain, make_program

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
        (r'{"q": "one", "answer": 1, "more": [{"x": ["\ud800"]}]}', "E0607", "`more` of line 2", 1),
        (r'{"q": "one", "answer": 1, "more": {"\ud800": 1}}', "E0607", "`more` of line 2", 1),
        ('{"q": "one", "answer": 0e9999999999999999999999}', "E0602", "out of range", 1),
        (r'{"q": "one", "answer": 1, "\ud800": 1}', "E0607", r"`\ud800` of line 2", 1),
        ('{"q": "one"}', "E0604", "no column `answer`", 1),
        ('{"q": null, "answer": 1}', "E0607", "`q` of line 2 is null", 1),
        ('{"q": "one", "answer": ["a"]}', "E0607", "`answer` of line 2 is a list", 1),
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


@pytest.mark.parametrize("name", ["missing.jsonl", "rows\0.jsonl"])
def test_what_cannot_be_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(MascError, match="E0601: cannot read"):
        read_rows(tmp_path / name, COLUMNS)


def test_a_long_file_full_of_errors_stops_at_ten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is read past the tenth."""
    from masc.backends.torch.data import formats

    read: list[str] = []
    original = formats._row
    monkeypatch.setattr(formats, "_row", lambda line, *rest: (read.append(line), original(line, *rest))[1])
    assert len(wrong(tmp_path, f"{GOOD}\n" * 100 + "{\n" * 1000)) == 10
    assert len(read) == 110


# -- formats ----------------------------------------------------------------------------------------------------------

TWO = [{"q": "one, or\ntwo", "answer": "1"}, {"q": 'a "word"', "answer": "2"}]


def named(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def plain(part: str | bytes) -> str:
    """A test's name: what is packed holds the time, and two processes must name their tests alike."""
    return "" if isinstance(part, bytes) else part


def csv_of(rows: list[dict[str, str]], sign: str = ",") -> bytes:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), delimiter=sign)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def parquet_of(rows: list[dict[str, str]]) -> bytes:
    import pyarrow
    from pyarrow import parquet

    out = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows), out)
    return out.getvalue()


LINES = "".join(json.dumps(row) + "\n" for row in TWO).encode()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.json", json.dumps(TWO).encode()),
        ("rows.json", b"\xef\xbb\xbf \n" + json.dumps(TWO, indent=2).encode() + b"\n"),
        ("rows.jsonl", json.dumps(TWO).encode()),
        ("rows.csv", csv_of(TWO)),
        ("rows.CSV", csv_of(TWO, ";")),
        ("rows.tsv", csv_of(TWO, "\t")),
        ("rows.parquet", parquet_of(TWO)),
        ("rows", parquet_of(TWO)),
        ("rows.jsonl.gz", gzip.compress(LINES)),
        ("rows.jsonl", gzip.compress(LINES)),
        ("rows.csv.gz", gzip.compress(csv_of(TWO))),
        ("rows.jsonl.bz2", bz2.compress(LINES)),
        ("rows.json.xz", lzma.compress(json.dumps(TWO).encode())),
        ("rows.jsonl.lzma", lzma.compress(LINES, format=lzma.FORMAT_ALONE)),
    ],
    ids=plain,
)
def test_formats_that_are_read(tmp_path: Path, name: str, content: bytes) -> None:
    assert read_rows(named(tmp_path, name, content), COLUMNS) == TWO


@pytest.mark.parametrize("name", ["ORCID", "ORC", "BZh", "PAR1", "ARROW1", "Obj", "%PDF"])
def test_a_column_may_be_called_like_a_format(tmp_path: Path, name: str) -> None:
    path = named(tmp_path, "rows.csv", f"{name},q,answer\n1,2,3\n".encode())
    assert read_rows(path, COLUMNS) == [{name: "1", "q": "2", "answer": "3"}]


@pytest.mark.parametrize(
    ("name", "content", "first"),
    [
        ("rows.csv", b'"a, b, c";q;answer\n1;2;3\n', "a, b, c"),
        ("rows.csv", b'\n\n"a\n,,,,;b";q;answer\n1;2;3\n', "a\n,,,,;b"),
        ("rows.csv", b'"a ""b,,"" c"\tq\tanswer\r1\t2\t3\r', 'a "b,," c'),
        ("rows.TSV", b"a, b, c, d\tq\tanswer\n1\t2\t3\n", "a, b, c, d"),
        ("rows.tsv.gz", gzip.compress(b"a, b, c, d\tq\tanswer\n1\t2\t3\n"), "a, b, c, d"),
    ],
    ids=plain,
)
def test_what_stands_between_columns(tmp_path: Path, name: str, content: bytes, first: str) -> None:
    from masc.compiler.passes.data_files import first_columns

    path = named(tmp_path, name, content)
    assert read_rows(path, COLUMNS) == [{first: "1", "q": "2", "answer": "3"}]
    assert first_columns(path) == (None if name.endswith("gz") else [first, "q", "answer"])


@pytest.mark.parametrize(
    "content", ["q,answer".encode("utf-16"), gzip.compress(b"q,answer", mtime=0), b"q\0,answer\n", b"\xe9,a"]
)
def test_what_is_no_table_has_no_first_columns(tmp_path: Path, content: bytes) -> None:
    from masc.compiler.passes.data_files import first_columns

    assert first_columns(named(tmp_path, "rows.csv", content)) is None


def test_a_table_without_rows_is_told_what_a_row_is(tmp_path: Path) -> None:
    with pytest.raises(MascError) as caught:
        read_rows(named(tmp_path, "rows.csv", b"q,answer\n"), COLUMNS)
    assert "below the first line" in str(caught.value.diagnostics[0].hint)


def tar_of(content: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        about = tarfile.TarInfo("rows.jsonl")
        about.size = len(content)
        archive.addfile(about, io.BytesIO(content))
    return out.getvalue()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("é".encode("utf-16"), "UTF-16"),
        (tar_of(LINES), "is a tar archive"),
        (b"text" + bytes(400), "is no text"),
        (b"\x80\x02}q\x00", "is a pickle"),
        (b"ORC\x08\x00\x1f", "is an ORC file"),
        (GOOD.encode("utf-16-le"), "UTF-16"),
        (GOOD.encode("utf-32"), "UTF-32"),
        (gzip.compress(LINES)[:-9], "packed by gzip, and is damaged"),
        (bz2.compress(LINES)[:40], "packed by bzip2, and is damaged"),
        (parquet_of(TWO)[:60], "is a Parquet file that cannot be read"),
        (b"PK\x03\x04rest", "is a zip archive"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "Git LFS pointer"),
        (b"<!doctype html><title>Sign in</title>", "is HTML"),
        (b"\x80\x04\x95rest", "is a pickle"),
        (b"caf\xe9", "line 1 of"),
        (b"{\n  " + GOOD[1:].encode() + b"\n", "line 1 is not JSON"),
        (b"q,answer\n1,2\n", "line 1 is not JSON"),
        (b"[" + GOOD.encode() + b", {]", "row 2 of the array is not JSON"),
        (b"[" + GOOD.encode() + b"\n" + GOOD.encode() + b"]", "is not finished after row 1"),
        (b"[" + GOOD.encode() + b"] more", "more behind the end"),
        (b"[" + GOOD.encode(), "is not finished after row 1"),
        (b"[1, 2]", "row 1 is not a JSON object"),
        (b"[[1], 2]", "row 1 is not a JSON object"),
        (b"[", "row 1 of the array is not JSON"),
        (b'{"q": "a", "q": "b", "answer": 1}', "has the column `q` twice"),
        (b'{"q": "a", "answer": 1, "more": {"x": 1, "x": 2}}', "has the column `x` twice"),
    ],
    ids=plain,
)
def test_formats_that_are_named(tmp_path: Path, content: bytes, told: str) -> None:
    (found, *_) = wrong(tmp_path, content)
    assert found.code == "E0602"
    assert told in found.message


@pytest.mark.parametrize("content", [b"PAR1 and text", b"q,answer\n1,2\n", b"\x00\x01"])
def test_a_broken_file_that_is_called_parquet_is_told_as_one(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(MascError, match="is a Parquet file that cannot be read"):
        read_rows(named(tmp_path, "rows.parquet", content), COLUMNS)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"q,q\n1,2\n", "the column `q` is named twice"),
        (b"q,answer\n1\n", "line 2 has 1 value,"),
        (b'q,answer\n"1,2\n', "is not CSV"),
        (b"q,other\n1,2\n", "line 2 has no column `answer`"),
    ],
)
def test_broken_csv(tmp_path: Path, content: bytes, told: str) -> None:
    with pytest.raises(MascError, match=told):
        read_rows(named(tmp_path, "rows.csv", content), COLUMNS)


def test_a_csv_value_may_be_long(tmp_path: Path) -> None:
    rows = [{"q": "x" * 300_000, "answer": "1"}]
    before = csv.field_size_limit()
    assert read_rows(named(tmp_path, "rows.csv", csv_of(rows)), COLUMNS) == rows
    assert csv.field_size_limit() == before


def test_two_long_tables_are_read_at_once(tmp_path: Path) -> None:
    rows = [{"q": "x" * 300_000, "answer": "1"}] * 3
    before, path = csv.field_size_limit(), named(tmp_path, "rows.csv", csv_of(rows))
    first, second = (entries(path, path.read_bytes()) for _ in range(2))
    next(first), next(second)
    assert len(list(first)) == 2  # the first one to begin is the first one to end
    assert len(list(second)) == 2
    assert csv.field_size_limit() == before


def test_an_empty_array_holds_no_rows(tmp_path: Path) -> None:
    assert [d.code for d in wrong(tmp_path, "[ ]\n")] == ["E0605"]


def test_a_missing_column_is_told_once(tmp_path: Path) -> None:
    assert len(wrong(tmp_path, '{"q": "a"}\n' * 30)) == 1


@pytest.mark.parametrize("end", ["}", "", '", "answer": 1'])
def test_what_is_said_of_a_long_line_is_short(tmp_path: Path, end: str) -> None:
    long = '{"q": "' + "x" * 2_000_000 + end
    found = wrong(tmp_path, f"{long}\n{long}\n")
    text = render(found)
    assert len(text) < 2_000
    assert "^" in text


def test_columns_are_named_in_short(tmp_path: Path) -> None:
    row = json.dumps({f"column {i}" * 20: 1 for i in range(5_000)})
    assert len(render(wrong(tmp_path, row))) < 4_000


def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "rows.jsonl")
    with pytest.raises(MascError, match="E0601"):
        read_rows(tmp_path / "rows.jsonl", COLUMNS)


# -- values -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("item", "text"),
    [
        (0.00001, "0.00001"),
        (1e16, "10000000000000000.0"),
        (1.5e-7, "0.00000015"),
        (-2.5e20, "-250000000000000000000.0"),
        (1.0, "1.0"),
        (-0.0, "-0.0"),
        (3, "3"),
        (True, "true"),
        (numpy.int64(7), "7"),
        (numpy.float32(0.5), "0.5"),
        (numpy.float64(1e-5), "0.00001"),
        (numpy.float32(0.1), "0.1"),
        (numpy.float16(1e-3), "0.001"),
        (numpy.float32(1e16), "10000000000000000.0"),
        (numpy.longdouble("0.1"), "0.1"),
        (numpy.array(0.1, "float32"), "0.1"),
        (numpy.bool_(False), "false"),
        (numpy.str_("a"), "a"),
        (numpy.array(4), "4"),
        (decimal.Decimal("1E-7"), "0.0000001"),
        ("1e-05", "1e-05"),
    ],
)
def test_values_as_text(item: object, text: str) -> None:
    assert text_of(item) == text
    assert value({"q": item}, "q", 0) == text


@pytest.mark.parametrize(
    "written",
    [
        "12345678901234567890.5",
        "0.1000000000000000055511151231257827",
        "-3.14159265358979323846",
        "0." + "0" * 340 + "25",
    ],
)
def test_no_digit_of_a_file_is_lost(tmp_path: Path, written: str) -> None:
    (row,) = read_rows(write(tmp_path, f'{{"q": {written}, "answer": 1}}'), COLUMNS)
    for copied in (row, pickle.loads(pickle.dumps(row)), copy.deepcopy(row)):
        assert text_of(copied["q"]) == written
    assert json.loads(json.dumps(row)) == {"q": float(written), "answer": 1}


def test_a_number_too_small_for_a_float_is_not_zero(tmp_path: Path) -> None:
    (row,) = read_rows(write(tmp_path, '{"q": 25e-402, "answer": 1}'), COLUMNS)
    assert text_of(row["q"]) == "0." + "0" * 400 + "25"


def test_narrow_floats_are_what_was_written(tmp_path: Path) -> None:
    import pandas
    import pyarrow
    from pyarrow import parquet

    from masc.backends.torch.data.rows import rows_of

    narrow = {"q": numpy.array([0.1, numpy.nan], "float32"), "answer": numpy.array([0.7, 2], "float16"), "x": [0.1, 1]}
    frame = pandas.DataFrame(narrow)
    parquet.write_table(pyarrow.table(narrow), tmp_path / "rows.parquet")
    for first, last in (
        rows_of(frame, "rows"),
        list(rows_of(parquet.read_table(tmp_path / "rows.parquet").to_pandas(), "")),
    ):
        assert first == {"q": 0.1, "answer": 0.7, "x": 0.1}
        assert math.isnan(last["q"])
    with pytest.raises(MascError, match="row 2 is nan"):
        read_rows(tmp_path / "rows.parquet", ("q",))
    assert read_rows(tmp_path / "rows.parquet", ("answer",))[0] == {"q": 0.1, "answer": 0.7, "x": 0.1}


def test_a_column_twice_in_a_data_frame_is_refused() -> None:
    import pandas

    from masc.backends.torch.data.rows import rows_of

    with pytest.raises(TypeError, match="the column `q` twice"):
        rows_of(pandas.DataFrame([[1, 2]], columns=["q", "q"]), "rows")


@pytest.mark.parametrize(
    ("item", "told"),
    [
        (numpy.datetime64("2020-01-01", "ns"), "is a datetime64"),
        (numpy.timedelta64(5, "ns"), "is a timedelta64"),
        (numpy.bytes_(b"x"), "is a bytes_"),
        (numpy.longdouble("inf"), "is inf"),
        (math.nan, "is nan, which is no number"),
        (-math.inf, "is -inf"),
        (numpy.float32("nan"), "is nan"),
        (decimal.Decimal("NaN"), "is NaN"),
        (decimal.Decimal("1E+9999999"), "thousands of digits"),
        pytest.param(10**5000, "thousands of digits", id="digits"),
        (None, "is null"),
        ([1], "is a list"),
        (b"x", "is a bytes"),
        (numpy.array([1]), "is an ndarray"),
        (2j, "is a complex"),
        ("\ud800", "half a character"),
    ],
)
def test_values_that_are_no_text(item: object, told: str) -> None:
    with pytest.raises(MascError, match=f"E0607.*{told}"):
        value({"q": item}, "q", 0)


def test_training_refuses_what_is_no_number(tiny: Path) -> None:
    import masc

    program = make_program(chain(("a", 1, "norm"), ("b", 0, "norm")), tiny)
    for bad in (math.nan, math.inf):
        with pytest.raises(MascError, match="E0607"):
            masc.train(program, [{"q": bad, "answer": "a"}], steps=1)
        with pytest.raises(MascError, match="E0607"):
            program([{"q": "a", "answer": bad}])
