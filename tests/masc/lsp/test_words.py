"""What the server says of the language is what the language is."""

from __future__ import annotations

import re

import pytest

from masc.compiler.language.values import PROJECTIONS, Reader, Scope, read_value
from masc.compiler.resolve.params import FIELD_TYPES
from masc.dsl.source import Source, Span
from masc.dsl.syntax import List, Literal, Name
from masc.dsl.tokens import KEYWORDS
from masc.lsp import words

SPAN = Span(Source("x.mas", "x"), 0, 1)


def test_every_keyword_and_type_is_explained() -> None:
    assert set(words.KEYWORDS) == set(KEYWORDS.values())
    assert set(words.TYPES) == set(FIELD_TYPES)


@pytest.mark.parametrize("owner", words.OPTIONS)
def test_the_words_of_an_option_are_those_that_it_reads(owner: str) -> None:
    options = words.OPTIONS[owner].values()
    assert {o.name: set(o.reads.words) for o in options} == {o.name: taken(o.reads, o.name) for o in options}
    for option in options:
        assert option.help
        assert option.choices, option.name


def test_what_stands_in_a_list_is_read() -> None:
    listed = {(owner, o.name): o.reads.items for owner, table in words.OPTIONS.items() for o in table.values()}
    assert {key: items for key, items in listed.items() if items} == {("lora", "targets"): PROJECTIONS}
    items = tuple(Name(SPAN, word) for word in PROJECTIONS)
    assert read_value(Scope(), words.OPTIONS["lora"]["targets"].reads, "targets", List(SPAN, items)) == PROJECTIONS


def test_what_is_said_of_an_option() -> None:
    assert words.about("train", "rate") == "**rate** = a number above 0\n\nAdamW's peak learning rate (default 2e-4)."
    assert words.about("hidden", "link") == (
        "**link** = `linear` or `mlp`\n\nThe trainable link: a matrix, or two layers beside a skip (default `linear`)."
    )
    assert words.about("kv", "links") is None


def taken(reader: Reader, name: str) -> set[str]:
    """The words that an option takes: those that its complaint names, as far as it then takes them."""
    if reader.type == "bool":
        truths = {"true": True, "false": False}
        return {
            word for word, truth in truths.items() if read_value(Scope(), reader, name, Literal(SPAN, truth)) is truth
        }
    scope = Scope()
    assert read_value(scope, reader, name, Name(SPAN, "no_such_word")) is None
    message = scope.notes[0].message
    named = re.findall(r"`(\w+)(?:\(.*?\))?`", message.partition("not `")[0]) if "takes" in message else []
    if name == "objective":  # one of them takes options, and one of these must be said
        return set(named) - {name}
    named += ["all"] if name == "layers" else []
    return {
        word for word in named if read_value(Scope(), reader, name, Name(SPAN, word)) == word or name == "layers"
    } | ({word for word in named if read_value(Scope(), reader, name, Name(SPAN, word)) == (word,)})
