"""What a file of rows may be: JSON lines, a JSON array, CSV or Parquet, each also packed by gzip, bzip2 or xz.

Its first bytes say which, and its name where bytes cannot (`.csv`, `.tsv`). Every other format is called by its name.
"""

from __future__ import annotations

import bz2
import codecs
import csv
import decimal
import gzip
import io
import json
import lzma
import math
import sys
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from masc.backends.torch.data.values import Written, narrowed
from masc.compiler.files import tables
from masc.dsl.diagnostics import MascError, fail, first_line
from masc.dsl.source import Source, Span

MOST_UNPACKED = 4 << 30
"""Bytes that a packed file may hold: some kilobytes can be packed terabytes."""

_PACKED: dict[bytes, tuple[str, Callable[[IO[bytes]], io.BufferedIOBase]]] = {
    b"\x1f\x8b": ("gzip", lambda file: gzip.GzipFile(fileobj=file)),
    b"BZh": ("bzip2", bz2.BZ2File),
    b"\xfd7zXZ\x00": ("xz", lzma.LZMAFile),
    b"\x5d\x00\x00": ("lzma", lzma.LZMAFile),
}
_FOREIGN = {
    b"\xff\xfe\x00\x00": "is UTF-32 text",
    b"\x00\x00\xfe\xff": "is UTF-32 text",
    b"\xff\xfe": "is UTF-16 text",
    b"\xfe\xff": "is UTF-16 text",
    b"PK\x03\x04": "is a zip archive",
    b"\x28\xb5\x2f\xfd": "is packed by Zstandard",
    b"7z\xbc\xaf\x27\x1c": "is a 7z archive",
    b"ARROW1": "is an Arrow file",
    b"\xff\xff\xff\xff": "is an Arrow stream",
    b"SQLite format 3\x00": "is an SQLite database",
    b"ORC": "is an ORC file",
    b"Obj\x01": "is an Avro file",
    b"\x89HDF\r\n": "is an HDF5 file",
    b"\x93NUMPY": "is a NumPy array",
    b"\x80\x02": "is a pickle",
    b"\x80\x03": "is a pickle",
    b"\x80\x04": "is a pickle",
    b"\x80\x05": "is a pickle",
    b"%PDF": "is a PDF document",
    b"version https://git-lfs": "is a Git LFS pointer: the file itself was not fetched (`git lfs pull`)",
}


@dataclass(frozen=True)
class Found:
    """One row, and where it stands: in words ("line 3"), and in the text where there is one."""

    row: dict[str, Any]
    where: str
    span: Span | None


Entry = Found | MascError
"""A row, or what is wrong with the one in its place."""


def entries(path: Path, data: bytes) -> Iterator[Entry]:
    """The rows of a file's content, in order; a broken one as the error that it is. Raises MascError (E0602, E0680)
    where the whole file cannot be read."""
    data, name = _unpacked(path, data)
    if _begins(data, b"PAR1"):
        yield from _parquet(path, data)
        return
    for magic, what in _FOREIGN.items():
        if _begins(data, magic):
            raise _foreign(path, what)
    if data[257:262] == b"ustar":
        raise _foreign(path, "is a tar archive")
    if name.endswith(".parquet") and data.strip()[:1] not in (b"", b"{", b"[", b"<"):  # broken: it may look like text
        yield from _parquet(path, data)
        return
    if b"\x00" in data[:4096]:
        raise _foreign(path, "is UTF-16 text" if _every_other(data[:200]) else "is no text")
    source = Source(str(path), _decoded(path, data))
    start = source.text.lstrip(" \t\r\n")[:1]
    if name.endswith(tables.SUFFIXES):
        yield from _csv(source, name)
    elif start == "[":
        yield from _array(source)
    elif start == "<":
        raise _foreign(path, "is HTML or XML")
    else:
        yield from _lines(source)


def _begins(data: bytes, magic: bytes) -> bool:
    """Whether a file begins with what marks a format. Where the mark is made of letters, text may begin with it as well
    (a column `ORCID`): then what follows must be no text."""
    return data.startswith(magic) and (not _is_text(magic) or len(magic) > 10 or not _is_text(data[:4096]))


def _is_text(data: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(data)  # its last character may be cut
    except UnicodeDecodeError:
        return False
    return not any(char < " " and char not in "\t\n\v\f\r" for char in text)


def _every_other(data: bytes) -> bool:
    """Whether every other byte is zero, but for a few, as in UTF-16 without a byte-order mark."""
    halves = sorted((data[::2].count(0), data[1::2].count(0)))
    return halves[0] <= len(data) // 20 and halves[1] > len(data) // 3


def no_rows_hint(path: Path) -> str:
    """What a file holds where it holds rows."""
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    if any(suffix in tables.SUFFIXES for suffix in suffixes):
        return "below the first line, which names the columns, each line is a row"
    return "each line is a JSON object, one row of data"


def _foreign(path: Path, what: str) -> MascError:
    hint = "rows come from JSON lines (UTF-8), a JSON array, CSV or Parquet; gzip, bzip2 and xz are unpacked"
    return fail("E0602", f"{path} {what}", hint=hint)


def _unpacked(path: Path, data: bytes) -> tuple[bytes, str]:
    """The content of a packed file, and the file's name without the packing's suffix."""
    for magic, (what, opened) in _PACKED.items():
        if not _begins(data, magic):
            continue
        try:
            with opened(io.BytesIO(data)) as file:
                content = file.read(MOST_UNPACKED + 1)
        except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
            raise fail("E0602", f"{path} is packed by {what}, and is damaged: {error}") from None
        if len(content) > MOST_UNPACKED:
            raise fail("E0602", f"{path} holds more than {MOST_UNPACKED >> 30} GiB when it is unpacked")
        return content, path.stem.lower()
    return data, path.name.lower()


def _decoded(path: Path, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise fail("E0602", f"line {line} of {path} is not UTF-8", hint="save the file as UTF-8") from None


# -- JSON ----------------------------------------------------------------------------------------------------------


def _lines(source: Source) -> Iterator[Entry]:
    start = 0
    # Not splitlines: it also splits at characters that JSON allows inside a string, such as U+2028.
    for number, line in enumerate(source.text.split("\n"), start=1):
        span = Span(source, start, start + len(line.removesuffix("\r")))
        start += len(line) + 1
        if line.strip(" \t\r"):
            yield _row(line, f"line {number}", span)


def _array(source: Source) -> Iterator[Entry]:
    """The objects of a JSON array. After one that cannot be read nobody knows where the next begins."""
    text = source.text
    at = _past_space(text, 0) + 1
    number = 0
    while True:
        at = _past_space(text, at)
        if text[at : at + 1] == "]" and number == 0:
            break
        number += 1
        try:
            item, end = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            span = Span(source, min(at, len(text)), min(at + 1, len(text)))
            yield _json_error(error, f"row {number} of the array", span)
            return
        yield _checked(item, f"row {number}", Span(source, at, end))
        at = _past_space(text, end)
        sign, at = text[at : at + 1], at + 1
        if sign == "]":
            break
        if sign != ",":
            span = Span(source, min(at - 1, len(text)), min(at, len(text)))
            yield fail("E0602", f"the JSON array is not finished after row {number}", span)
            return
    if (rest := _past_space(text, at + (number == 0))) < len(text):
        yield fail("E0602", "there is more behind the end of the JSON array", Span(source, rest, rest + 1))


def _past_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


def _row(line: str, where: str, span: Span) -> Entry:
    try:
        item = _DECODER.decode(line.strip(" \t\r"))
    except (ValueError, RecursionError) as error:
        ahead = len(line) - len(line.lstrip(" \t\r"))
        return _json_error(error, where, span, ahead)
    return _checked(item, where, span)


def _json_error(error: Exception, where: str, span: Span, ahead: int = 0) -> MascError:
    """What is wrong with a text that is not JSON. ahead: characters before what the decoder was given."""
    if isinstance(error, RecursionError):
        return fail("E0602", f"{where} is nested too deeply", span)
    if isinstance(error, _TwiceError):
        return fail("E0602", f"{where} has the column `{_short(error.name)}` twice", span)
    if not isinstance(error, json.JSONDecodeError):
        # Python's own: "Exceeds the limit (4300 digits) ...; use sys.set_..."
        return fail("E0602", f"{where} holds a number that cannot be read: {str(error).partition(';')[0]}", span)
    if where.startswith("line"):
        at = min(span.start + ahead + error.pos, span.end)
    else:
        at = min(error.pos, len(span.source.text))
    place = Span(span.source, at, min(at + 1, len(span.source.text)))
    return fail("E0602", f"{where} is not JSON: {error.msg}", place, hint=_what_it_may_be(span, where))


def _what_it_may_be(span: Span, where: str) -> str | None:
    """A hint for a first line that is no row: what the file may be instead."""
    if where != "line 1":
        return None
    text = span.source.text.lstrip()
    if text.startswith("{"):
        try:
            _DECODER.raw_decode(text)
        except (ValueError, RecursionError):
            return None
        return "a row of JSON lines stands on one line; objects over several lines can be read from an array"
    return "each line is a JSON object, one row; CSV is read from files whose name ends in .csv"


class _TwiceError(ValueError):
    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object; which of two values of one key is meant, nobody can say."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _TwiceError(next(name for name in names if names.count(name) > 1))
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


_FEWEST_LOST = 16
"""A number of so many characters, sign and point included, has no digit that a float does not hold."""


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is too large")
    if len(text) <= _FEWEST_LOST and abs(number) > sys.float_info.min:
        return number
    try:
        written = decimal.Decimal(text)
    except decimal.InvalidOperation:
        raise ValueError(f"{text[:20]} has an exponent that is out of range") from None
    return number if written == decimal.Decimal(repr(number)) else Written(number, written)


_DECODER = json.JSONDecoder(parse_constant=_no_constant, parse_float=_finite, object_pairs_hook=_unique)


def _checked(item: object, where: str, span: Span) -> Entry:
    if not isinstance(item, dict):
        return fail("E0602", f"{where} is not a JSON object", span, hint='write {"column": "value"}')
    if broken := [name for name, value in item.items() if _half(name) or _half(value)]:
        # Such text can be neither tokenised nor printed.
        name = _short(broken[0].encode(errors="backslashreplace").decode())
        what = "holds half a surrogate pair (\\ud800 to \\udfff), which is no character"
        return fail("E0607", f"column `{name}` of {where} {what}", span)
    return Found(item, where, span)


def _half(item: object) -> bool:
    """Whether a value is or holds a string that is no Unicode text: JSON can spell half a surrogate pair."""
    waiting = [item]
    while waiting:
        match waiting.pop():
            case str() as text:
                try:
                    text.encode()
                except UnicodeEncodeError:
                    return True
            case list() as items:
                waiting += items
            case dict() as members:
                waiting += [*members, *members.values()]
    return False


def _short(name: str) -> str:
    return name if len(name) <= 80 else name[:79] + "…"


# -- tables --------------------------------------------------------------------------------------------------------


def _csv(source: Source, name: str) -> Iterator[Entry]:
    """The first line names the columns; every value is text. name: the file's, without a packing's suffix."""
    with tables.long_values():
        yield from _csv_rows(source, tables.reader(source.text, name))


def _csv_rows(source: Source, reader: Any) -> Iterator[Entry]:
    header: list[str] | None = None
    while True:
        try:
            fields = next(reader, None)
        except csv.Error as error:
            yield fail("E0602", f"line {reader.line_num} of {source.path} is not CSV: {error}")
            return
        if fields is None:
            return
        where, span = f"line {reader.line_num}", _line_span(source, reader.line_num)
        if not fields:
            continue
        if header is None:
            header = [name.strip() for name in fields]
            if twice := next((name for name in header if header.count(name) > 1), None):
                yield fail("E0602", f"the column `{_short(twice)}` is named twice", span)
                return
        elif len(fields) != len(header):
            values = "1 value" if len(fields) == 1 else f"{len(fields)} values"
            what = f"{where} has {values}, and the first line names {len(header)} columns"
            yield fail("E0602", what, span, hint='a value that holds a comma or a line end stands in "quotes"')
        else:
            yield Found(dict(zip(header, fields, strict=True)), where, span)


def _line_span(source: Source, number: int) -> Span | None:
    try:
        start = source.start_of(number)
    except IndexError:
        return None
    return Span(source, start, start + len(source.line(number)))


_NARROW = {"halffloat": "float16", "float": "float32"}
"""NumPy's names of Arrow's narrow floats."""


def _parquet(path: Path, data: bytes) -> Iterator[Entry]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        hint = "pip install pyarrow (the package `datasets` brings it)"
        raise fail("E0680", f"{path} is a Parquet file, which needs the package `pyarrow`", hint=hint) from None
    try:
        table = parquet.read_table(io.BytesIO(data))
        rows = table.to_pylist()
        narrow = {field.name: _NARROW[str(field.type)] for field in table.schema if str(field.type) in _NARROW}
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        what = first_line(error)[:200]
        raise fail("E0602", f"{path} is a Parquet file that cannot be read: {what}") from None
    for number, row in enumerate(rows, start=1):
        yield Found(narrowed(row, narrow), f"row {number}", None)
