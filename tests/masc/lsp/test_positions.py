"""Lines and columns as the protocol counts them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from masc.lsp.positions import Encoding, offset, position

TEXT = 'a🙂b\r\n"ü"\rx\u2028y\n'


@pytest.mark.parametrize(
    ("at", "utf8", "utf16", "utf32"),
    [
        (0, (0, 0), (0, 0), (0, 0)),
        (2, (0, 5), (0, 3), (0, 2)),
        (3, (0, 6), (0, 4), (0, 3)),
        (5, (1, 0), (1, 0), (1, 0)),
        (7, (1, 3), (1, 2), (1, 2)),
        (9, (2, 0), (2, 0), (2, 0)),
        (11, (2, 4), (2, 2), (2, 2)),
        (len(TEXT), (3, 0), (3, 0), (3, 0)),
    ],
)
def test_places_of_offsets(at: int, utf8: tuple[int, int], utf16: tuple[int, int], utf32: tuple[int, int]) -> None:
    assert position(TEXT, at, "utf-8") == utf8
    assert position(TEXT, at) == utf16
    assert position(TEXT, at, "utf-32") == utf32


def test_what_is_outside_is_brought_inside() -> None:
    assert offset(TEXT, 0, 99) == 3
    assert offset(TEXT, 99, 0) == len(TEXT)
    assert offset(TEXT, 0, 2) == 1, "the middle of an emoji is its start"


@given(
    st.text(st.sampled_from("aü🙂\r\n\u2028"), max_size=12), st.sampled_from(["utf-8", "utf-16", "utf-32"]), st.data()
)
def test_there_and_back(text: str, encoding: Encoding, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(text)))
    between = text[at - 1 : at + 1] == "\r\n"
    assert offset(text, *position(text, at, encoding), encoding) == (at - 1 if between else at)
