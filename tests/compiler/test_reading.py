"""Files that anybody may have written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from masc.compiler.files.reading import parse_json, read_json, read_regular
from masc.compiler.forms.plan_json import load_plan
from masc.dsl.diagnostics import MascError

DEEP = "[" * 200_000 + "]" * 200_000


@pytest.mark.parametrize(
    "text",
    [DEEP, '{"a": ' * 200_000, "NaN", "[-Infinity]", "{", "", b"\xff", "1" * 5000],
    ids=["lists", "objects", "NaN", "infinity", "open", "nothing", "not UTF-8", "digits"],
)
def test_what_is_no_json_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # the words are the library's
        parse_json(text)


def test_a_key_that_stands_there_twice() -> None:
    assert parse_json('{"a": 1, "a": 2}') == {"a": 2}
    with pytest.raises(ValueError, match="twice"):
        parse_json('[{"b": {"a": 1, "a": 2}}]', unique=True)


def test_a_plan_that_is_nested_without_end() -> None:
    with pytest.raises(MascError, match="nested too deeply"):
        load_plan(DEEP)


def test_regular_files_alone(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"a": 1}')
    assert read_json(tmp_path / "x.json") == {"a": 1}
    with pytest.raises(OSError, match="more than the 4"):
        read_regular(tmp_path / "x.json", 4)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "zero", "."):
        with pytest.raises(OSError, match=r"not a regular file|directory"):
            read_regular(tmp_path / name, 1 << 20)
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "nowhere.json")
