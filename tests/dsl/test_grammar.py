"""The parser's tables are kept in the cache, and are built anew where that cannot be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dsl_trees import SKETCH
from masc.dsl import tokens
from masc.dsl.parser import parse
from masc.dsl.source import Source


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache. What is loaded is forgotten before and after."""
    monkeypatch.setenv("MASC_CACHE", str(tmp_path / "cache"))
    tokens.grammar.cache_clear()
    yield tmp_path / "cache"
    tokens.grammar.cache_clear()


def read_again() -> None:
    tokens.grammar.cache_clear()
    file, diagnostics = parse(Source("a.mas", SKETCH))
    assert file is not None
    assert not diagnostics


def test_tables_are_kept_and_used(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read_again()
    (tables,) = cache.iterdir()
    written = tables.read_bytes()

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("built anew")

    monkeypatch.setattr("lark.lark.load_grammar", refuse)
    read_again()
    assert tables.read_bytes() == written


@pytest.mark.parametrize("content", [b"", b"x", b"0" * 64 + b"\n\x80\x04"])
def test_a_damaged_file_is_written_anew(cache: Path, content: bytes) -> None:
    read_again()
    (tables,) = cache.iterdir()
    written = tables.read_bytes()
    tables.write_bytes(content)
    read_again()
    again = tables.read_bytes()
    assert again[:64] == written[:64]  # the grammar's hash; what follows differs in the order of sets
    assert len(again) == pytest.approx(len(written), rel=0.01)


def test_a_cache_that_cannot_be(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.write_text("a file where the folder should be")
    read_again()
    monkeypatch.setenv("MASC_CACHE", "/proc/nowhere")
    read_again()
