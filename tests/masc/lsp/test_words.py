"""What the server says of the language is what the language is."""

from __future__ import annotations

import re

import pytest

from masc.compiler.language.values import PROJECTIONS, Reader, Scope, read_value
from masc.compiler.resolve.agents import ANSWER, LORA, THINK
from masc.compiler.resolve.channel import CHANNELS
from masc.compiler.resolve.params import FIELD_TYPES
from masc.compiler.resolve.train import TRAIN
from masc.dsl.source import Source, Span
from masc.dsl.syntax import List, Name
from masc.dsl.tokens import KEYWORDS
from masc.lsp import words

TABLES: dict[str, dict[str, Reader]] = {
    "think": THINK,
    "lora": LORA,
    "answer": ANSWER,
    **CHANNELS,
    "train": {name: reader for name, (_, reader) in TRAIN.items()},
}
SPAN = Span(Source("x.mas", "x"), 0, 1)


def test_every_keyword_type_and_channel_is_explained() -> None:
    assert set(words.KEYWORDS) == set(KEYWORDS.values())
    assert set(words.TYPES) == set(FIELD_TYPES)
    assert set(words.CHANNELS) == set(CHANNELS)


@pytest.mark.parametrize("owner", TABLES)
def test_every_option_is_explained_with_its_words(owner: str) -> None:
    assert {name: set(option.words) for name, option in words.OPTIONS[owner].items()} == {
        name: taken(reader, name) for name, reader in TABLES[owner].items()
    }
    for name, option in words.OPTIONS[owner].items():
        assert option.about
        assert option.words or option.takes, name


def test_no_other_options_are_explained() -> None:
    assert set(words.OPTIONS) == set(TABLES)
    assert words.ITEMS == {("lora", "targets"): PROJECTIONS}
    scope = Scope()
    items = tuple(Name(SPAN, word) for word in PROJECTIONS)
    assert read_value(scope, LORA["targets"], "targets", List(SPAN, items)) == PROJECTIONS


def taken(reader: Reader, name: str) -> set[str]:
    """The words that an option takes: those that its complaint names, as far as it then takes them."""
    scope = Scope()
    assert read_value(scope, reader, name, Name(SPAN, "no_such_word")) is None
    message = scope.notes[0].message
    named = re.findall(r"`(\w+)`", message.partition("not `")[0]) if "takes" in message else []
    named += ["all"] if name == "layers" else []
    return {
        word for word in named if read_value(Scope(), reader, name, Name(SPAN, word)) == word or name == "layers"
    } | ({word for word in named if read_value(Scope(), reader, name, Name(SPAN, word)) == (word,)})
