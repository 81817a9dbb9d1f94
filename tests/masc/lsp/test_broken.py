"""A text is broken most of the time that somebody types in it: nothing may fail, and what is offered fits its place."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lsprotocol import types

from editor import MAIN, desk
from masc.lsp.actions import actions
from masc.lsp.completion import complete
from masc.lsp.convert import Convert
from masc.lsp.hover import hover
from masc.lsp.outline import outline
from masc.lsp.rename import RefusedError, apply, rename

PIECES = [
    "{",
    "}",
    "(",
    ")",
    "[",
    "]",
    "->",
    ":",
    "=",
    '"',
    '"""',
    "\n",
    "kv",
    "as",
    "train",
    "agent",
    "🙂",
    "#",
    "..",
    ",",
]
CONVERT = Convert(lambda path: f"file://{path}", "utf-16")


@st.composite
def broken(draw: st.DrawFn) -> str:
    """The program with pieces put in and taken out, and the cursor somewhere."""
    text = MAIN
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.sampled_from(PIECES)) + text[at + draw(st.sampled_from([0, 0, 1, 4, 12])) :]
    text = text[: draw(st.sampled_from([len(text), draw(st.integers(0, len(text)))]))]
    at = draw(st.integers(0, len(text)))
    return f"{text[:at]}‸{text[at:]}"


def hold(folder: Path, text: str) -> None:
    at = desk(folder, text)
    for item in complete(at.index, at.path, at.offset):
        assert 0 <= item.start <= at.offset <= item.end <= len(at.texts[at.path])
    hover(at.index, at.compile, at.path, at.offset)
    found = at.compile(at.path).diagnostics
    here = [d for d in found if d.span and d.span.source.path == at.path]
    for diagnostic in found:
        CONVERT.diagnostic(diagnostic)
    for action in actions(here, 0, len(text)):
        assert apply(at.texts[at.path], [action.edit]) != at.texts[at.path]
    file = at.index.files[at.path].file
    for entry in outline(file) if file else ():
        nested(CONVERT.symbol(entry))
    with contextlib.suppress(RefusedError):
        rename(at.index, at.path, at.offset, "some_new_name")


def nested(symbol: types.DocumentSymbol) -> None:
    """Editors refuse a symbol whose name stands outside of it."""
    assert symbol.range.start <= symbol.selection_range.start
    assert symbol.selection_range.end <= symbol.range.end
    for child in symbol.children or ():
        nested(child)


@settings(max_examples=120, deadline=None)
@given(broken())
def test_nothing_fails(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    hold(tmp_path_factory.getbasetemp(), text)


def test_a_keyword_among_arguments(tmp_path: Path) -> None:
    """The automaton's table has a choice there that comes to nothing."""
    hold(tmp_path, MAIN.replace('"mathematics"', '"mathematics"train').replace("carry =", "carry =‸"))
