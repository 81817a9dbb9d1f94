"""YAML: the same tree, the same diagnostics, and nothing that YAML can do to a reader."""

from __future__ import annotations

import json

import pytest

from dsl_trees import SKETCH, YAML_SKETCH
from masc.dsl.dump import dump
from masc.dsl.formatter import format_file
from masc.dsl.read import read_source
from masc.dsl.render import render
from masc.dsl.source import Source
from masc.dsl.syntax import Agent, File, Placeholder, Say


def tree(text: str, path: str = "a.yaml") -> File:
    file, diagnostics = read_source(Source(path, text))
    assert not diagnostics, render(diagnostics)
    assert file
    return file


def test_both_forms_are_one_tree() -> None:
    yaml, mas = tree(YAML_SKETCH), tree(SKETCH, "a.mas")
    assert yaml == mas
    assert dump(yaml, spans=False) == dump(mas, spans=False)


def test_comments_are_kept() -> None:
    text = format_file(tree(YAML_SKETCH))
    for comment in (
        "The sketch of the design.",
        "language version",
        "registry name",
        "latent steps",
        "a template",
        "which",
    ):
        assert f"# {comment}" in text


@pytest.mark.parametrize(
    ("yaml", "mas"),
    [
        (
            "params: {a: 1, b: 0.5, c: true, d: 'x'}",
            'param a: int = 1 param b: float = 0.5 param c: bool = true param d: text = "x"',
        ),
        ('params: {a: {type: text, default: "x"}}', 'param a: text = "x"'),
        ("agents: {a: {on: m, think: 3, adapt: none, answer: }}", "agent a on m { think 3 adapt none answer }"),
        (
            "agents: {a: {on: m, think: {align: ridge, steps: n}, adapt: lora}}",
            "agent a on m { think n (align = ridge) adapt lora }",
        ),
        ("agents: {a: {on: m, answer: {stop: [a, 'b']}}}", 'agent a on m { answer (stop = [a, "b"]) }'),
        ("graph: {name: g, outputs: a, body: [x]}", "graph g() -> a { x }"),
        ("graph: {name: g, inputs: [p, q], outputs: [a, b], body: [x -> y]}", "graph g(p, q) -> a, b { x -> y }"),
        (
            "graph:\n  name: g\n  outputs: a\n  body: |\n    x -> y : kv\n    y -> z",
            "graph g() -> a { x -> y : kv y -> z }",
        ),
        (
            "train: {data: train, layers: 0..9, dtype: float32, clip: [1, 2]}",
            'train { data "train" layers 0..9 dtype float32 clip [1, 2] }',
        ),
        (
            "train: {supervise: {a: Gold Answer, b: 'gold-answer', c: gold, d: true, e: 12}}",
            'train { a <- "Gold Answer" b <- "gold-answer" c <- "gold" d <- "true" e <- "12" }',
        ),
    ],
)
def test_what_yaml_means(yaml: str, mas: str) -> None:
    assert dump(tree("mas: 1\n" + yaml), spans=False) == dump(tree("mas 1 " + mas, "a.mas"), spans=False)


@pytest.mark.parametrize(
    "scalar",
    [
        "Hi {name}, bye",
        '"Hi {name}, bye"',
        "'It''s {name}'",
        '"a \\"b\\" \\u00e4\\n {name}"',
        "|\n      one\n        two {name}\n",
        ">\n      one\n      two {name}\n\n      three",
        '"one\n      two\\\n      three {name}"',
        "one\n      two {name}",
    ],
)
def test_placeholders_point_into_the_text(scalar: str) -> None:
    agent = tree(f"mas: 1\nagents:\n  a:\n    on: m\n    user: {scalar}\n").declarations[0]
    assert isinstance(agent, Agent)
    say = agent.members[0]
    assert isinstance(say, Say)
    assert [part.span.text for part in say.prompt.parts if isinstance(part, Placeholder)] == ["{name}"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ["E0101 1:1 ''"]),
        ("models: {a: b}", ["E0101 1:1 ''"]),
        ("mas: 2", ["E0102 1:6 '2'"]),
        ("mas: 1\nmodels: {a: b", ["E0120 2:14 ''"]),
        ("mas: 1\nmodels: [a]", ["E0123 2:9 '[a]'"]),
        ("mas: 1\nmodles: {a: b}", ["E0121 2:1 'modles'"]),
        ("mas: 1\nmodels: {a: b, a: c}", ["E0122 2:16 'a'"]),
        ("mas: 1\nmodels: {a-b: c}", ["E0111 2:10 'a-b'"]),
        ("mas: 1\nmodels: {a: }", ["E0123 2:12 ''"]),
        ("mas: 1\nparams: {a: 1e999}", ["E0109 2:13 '1e999'"]),
        ("mas: 1\nagents:\n  a:\n    user: x", ["E0124 3:3 'a'"]),
        ("mas: 1\nagents:\n  a:\n", ["E0124 3:3 'a'"]),
        ("mas: 1\nagents:\n  a: [b]\n", ["E0123 3:6 '[b]'"]),
        ("mas: 1\nagents:\n  a: {on: m, user: 'x {y'}", ["E0108 3:23 '{'"]),
        ("mas: 1\ngraph: {name: g, outputs: [a], body: ['a -> -> b']}", ["E0103 2:45 '->'"]),
        ('mas: 1\ngraph: {name: g, outputs: [a], body: ["a -> \\u0062 : : c"]}', ["E0103 2:54 ':'"]),
        ("mas: 1\ngraph: {name: g, outputs: [a], body: [[a]]}", ["E0123 2:39 '[a]'"]),
        ("mas: 1\nmodels: {a: !x b}", ["E0125 2:13 '!x'"]),
        ("mas: 1\nmodels: &m {a: b}\nagents: *m", ["E0125 2:9 '&m'"]),
        ("mas: 1\nagents: *m", ["E0125 2:9 '*m'"]),
        ("mas: 1\nmodels: {a: !!str 4}", ["E0125 2:13 '!!str'"]),
        ("mas: 1\nparams: {a: !!int '4'}", ["E0125 2:13 '!!int'"]),
        ("mas: 1\nparams: {a: ! 4}", ["E0125 2:13 '!'"]),
        ("mas: 1\nparams: !!python/object/apply:os.getcwd []", ["E0125 2:9 '!!python/object/apply:os.getcwd'"]),
        ("mas: 1\nagents:\n  a: {on: m, user: {q}}", ["E0123 3:20 '{q}'"]),
        ("mas: 1\nparams: {a: '\\n', b: '\\nabla \\text', c: \"\\n\"}", ["W0210 2:14 '\\\\n'"]),
        ("mas: 1\nagents:\n  a:\n    on: m\n    user: No #1", ["W0211 5:14 '#1'"]),
        ("mas: 1\nagents:\n  a:\n    on: m\n    user: No  # 1", []),
        ("mas: 1\n--- \nmas: 1", ["E0120 2:1 '-'"]),
        ("[1, 2]", ["E0123 1:1 '[1, 2]'", "E0101 1:1 ''"]),
        ('mas: "\\UFFFFFFFF"', ["E0107 1:7 '\\\\UFFFFFFFF'"]),
        ('mas: "\\\\U00110000 \\U00110000"', ["E0107 1:19 '\\\\U00110000'"]),
        ('mas: "a\u2028b"', ["E0120 1:8 '\\u2028'"]),
        ("mas: 1  # a\x85models: {}", ["E0120 1:12 '\\x85'"]),
        ("mas: 1\n\tmodels: x", ["E0120 2:1 '\\t'"]),
        ("mas: \x00", ["E0120 1:6 '\\x00'"]),
    ],
)
def test_diagnostics(text: str, expected: list[str]) -> None:
    _, diagnostics = read_source(Source("a.yaml", text))
    found = [f"{d.code} {d.span.line}:{d.span.column} {d.span.text!r}" for d in diagnostics if d.span]
    assert found == expected


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        (
            "user: [a] {q}",
            "something follows what is complete already",
            "text that holds YAML's own marks stands in quotes",
        ),
        (
            'user: "a", b',
            "something follows what is complete already",
            "text that holds YAML's own marks stands in quotes",
        ),
        ("user: ? {q}", "text cannot begin with this character", "put the text in quotes"),
        (
            "a:\n  - b\n - c",
            "this line is indented differently from those around it",
            "let the `-` of one list line up",
        ),
        ("user: a\x07", "the character U+0007 is not allowed in YAML as it is", "in double quotes, write `\\u0007`"),
        ("user: a\x7f", "the character U+007F is not allowed in YAML as it is", "in double quotes, write `\\u007F`"),
        (
            "user: a\u2029",
            "the character U+2029 ends a line for some YAML readers only",
            "in double quotes, write `\\u2029`",
        ),
    ],
)
def test_what_yaml_cannot_read_is_said_in_words(text: str, message: str, hint: str | None) -> None:
    _, found = read_source(Source("a.yaml", text))
    assert message in found[0].message
    assert "<" not in found[0].message
    assert hint is None or found[0].hint == hint


def test_did_you_mean_and_labels() -> None:
    _, diagnostics = read_source(Source("a.yaml", "mas: 1\nagents:\n  a: {on: m, on: n, sytem: x}"))
    twice, unknown = diagnostics
    assert [label.span.text for label in twice.labels] == ["on"]
    assert unknown.hint == "did you mean `system`?"


def test_hostile_text() -> None:
    bomb = "mas: 1\na: &a [x, x]\n" + "".join(
        f"{chr(98 + i)}: &{chr(98 + i)} [*{chr(97 + i)}, *{chr(97 + i)}]\n" for i in range(20)
    )
    for text in (bomb, "[" * 20_000, "mas: " + "{a: " * 5_000, "- " * 5_000):
        _, diagnostics = read_source(Source("a.yaml", text))
        assert diagnostics


PLACES = [
    "models: {a: %s}",
    "params: {a: %s}",
    "params: {a: {type: text, default: %s}}",
    "imports: [{from: %s, names: [a]}]",
    "agents: {a: {on: m, system: %s, user: %s}}",
    "agents: {a: {on: m, answer: {stop: [b, %s]}}}",
    "train: {data: %s}",
]


@pytest.mark.parametrize("place", PLACES)
def test_characters_as_json_writes_them(place: str) -> None:
    """Two escapes that belong together are one character, as in JSON; half of one is refused where it stands."""
    text = place.replace("%s", r'"a \ud83d\ude00 b \uD83D\uDE00\U0001F600"')
    assert dump(tree("mas: 1\n" + text), spans=False) == dump(
        tree("mas: 1\n" + place.replace("%s", '"a 😀 b 😀😀"')), spans=False
    )
    assert not format_file(tree("mas: 1\n" + text)).count("\\u")
    for halves in ([r"\ud83d"], [r"\ude00"], [r"\ude00", r"\ud83d"], [r"\U0000D83D"]):
        scalar = f'"a 😀 \\ud83d\\ude00 {"".join(halves)}"'
        _, found = read_source(Source("a.yaml", "mas: 1\n" + place.replace("%s", scalar)))
        assert [d.span.text for d in found if d.span and d.code == "E0107"] == halves * place.count("%s")


def test_halves_in_keys_and_placeholders_behind_pairs() -> None:
    (emoji,) = read_source(Source("a.yaml", 'mas: 1\nmodels: {"\\ud83d\\ude00": x}'))[1]
    assert (emoji.code, emoji.message) == ("E0111", "`😀` cannot be a name")
    assert "E0107" in [d.code for d in read_source(Source("a.yaml", 'mas: 1\nmodels: {"\\ud83d": x}'))[1]]
    file = tree('mas: 1\nagents: {a: {on: m, user: "\\ud83d\\ude00 {x}"}}')
    (agent,) = (d for d in file.declarations if isinstance(d, Agent))
    (say,) = (m for m in agent.members if isinstance(m, Say))
    assert [part.span.text for part in say.prompt.parts if isinstance(part, Placeholder)] == ["{x}"]


def test_a_json_file_is_the_same_tree() -> None:
    content = {"mas": 1, "models": {"m": "😀"}, "agents": {"a": {"on": "m", "user": "😀 {x} 𝔘"}}}
    assert tree(json.dumps(content)) == tree(json.dumps(content, ensure_ascii=False))


def test_hints_to_put_text_in_quotes() -> None:
    for text in ("{q}", "[x]", "- a", "@x", "*x*", "&x;", "*x", "| text", "{q} Say", "a: b", "null"):
        _, found = read_source(Source("a.yaml", f"mas: 1\nagents:\n  a:\n    on: m\n    user: {text}\n"))
        assert [d.code[0] for d in found] == ["E"], text
        assert "in quotes" in (found[0].hint or ""), text


def test_an_edge_as_a_loader_hands_it_on_is_an_edge() -> None:
    """YAML takes the colon of `a -> b : kv` for its own, and so does whoever writes again what a loader read."""
    head = "mas: 1\ngraph: {name: g, outputs: [a], body: "
    expected = tree(head + "['a -> b : kv(carry = own)', 'b -> a']}")
    assert tree(head + '[{"a -> b": "kv(carry = own)"}, "b -> a"]}') == expected
    assert tree(head + '[{a -> b: "kv(carry = own)"}, b -> a]}') == expected
    (wrong,) = read_source(Source("a.yaml", head + '[{"a -> b": "kv(carry own)"}]}'))[1]
    assert wrong.span is not None
    assert wrong.span.text == "own"
