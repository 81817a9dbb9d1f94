"""`.mas` text: what it says, where it stands, what is wrong with it."""

from __future__ import annotations

import pytest

from dsl_trees import SKETCH
from masc.dsl.dump import dump
from masc.dsl.parser import MOST_ERRORS, parse
from masc.dsl.render import render
from masc.dsl.source import Source
from masc.dsl.syntax import Agent, File, Graph, Param, Placeholder, Prompt, Say, Setting, Train


def tree(text: str) -> File:
    file, diagnostics = parse(Source("a.mas", text))
    assert not diagnostics, render(diagnostics)
    assert file
    return file


def prompt(written: str) -> Prompt:
    agent = tree(f"mas 1 agent a on m {{ user {written} }}").declarations[0]
    assert isinstance(agent, Agent)
    assert isinstance(agent.members[0], Say)
    return agent.members[0].prompt


def test_the_whole_sketch() -> None:
    expected = """
(file version=1)
  declarations: (import path="roles.mas" names=[critic refiner])
  declarations: (model name=small target="smollm2-135m")
  declarations: (param name=latents type=int default=10)
  declarations: (agent name=planner model=small)
    members: (say role=system prompt=["You plan before you compute."])
    members: (say role=user prompt=[{question} "\\nWrite a short plan. Do not answer yet."])
    members: (think steps=latents)
      options: (option name=align value=ridge)
    members: (adapt kind=lora)
      options: (option name=rank value=8)
      options: (option name=alpha value=16)
  declarations: (agent name=expert model=small)
    fields: (field name=field type=text)
    members: (say role=user prompt=["You know " {field} ". " {question}])
    members: (think steps=latents)
  declarations: (agent name=solver model=small)
    members: (say role=user prompt=[{question} "\\nEnd with the number alone."])
    members: (answer)
      options: (option name=max_tokens value=128)
  declarations: (graph name=relay inputs=[question] outputs=[answer])
    body: (instance name=maths template=expert)
      arguments: (literal value="mathematics")
    body: (instance name=physics template=expert)
      arguments: (literal value="physics")
    body: (edge)
      stages: (group names=[planner])
      stages: (group names=[maths physics])
      channel: (channel kind=kv)
    body: (edge)
      stages: (group names=[maths physics])
      stages: (group names=[solver])
      channel: (channel kind=kv)
        options: (option name=carry value=own)
        options: (option name=merge value=stack)
        options: (option name=open value=40 qualifier=trace)
        options: (option name=layers value=0..9)
    body: (repeat count=2)
      body: (edge)
        stages: (group names=[solver])
        stages: (group names=[critic])
        channel: (channel kind=kv)
      body: (edge)
        stages: (group names=[critic])
        stages: (group names=[solver])
        channel: (channel kind=kv)
          options: (option name=carry value=latents)
  declarations: (train)
    entries: (setting name=data value="train.jsonl")
    entries: (supervise output=answer column=solution)
    entries: (setting name=batch value=8)
    entries: (setting name=steps value=500)
    entries: (setting name=rate value=0.0002)
    entries: (setting name=warmup value=0.05)
"""
    assert dump(tree(SKETCH), spans=False) == expected.lstrip()


def test_comments_find_their_nodes() -> None:
    file = tree(
        '# head\nmas 1 # version\n# above\nmodel m = "x" # beside\nagent a on m { # opens\n  # the prompt\n'
        '  user "x" # says\n  answer (\n    # inside\n    seed = 1\n  ) # last\n  # end\n} # after\n# tail\n'
    )
    model, agent = file.declarations
    assert isinstance(agent, Agent)
    assert (file.header, file.trailing, file.trailer) == (("head",), "version", ("tail",))
    assert (model.leading, model.trailing) == (("above",), "beside")
    assert (agent.trailing, agent.inner) == ("opens", ("end", "after"))
    assert [(member.leading, member.trailing) for member in agent.members] == [
        (("the prompt",), "says"),
        (("inside", "last"), None),
    ]


def test_spans_are_exact() -> None:
    text = 'mas 1\nagent a on m {\n  user """\n    Hi \\u00e4 {name}!\n    """\n}\n'
    agent = tree(text).declarations[0]
    assert isinstance(agent, Agent)
    say = agent.members[0]
    assert isinstance(say, Say)
    hole = say.prompt.parts[1]
    assert isinstance(hole, Placeholder)
    assert (hole.span.text, hole.span.line, hole.span.column) == ("{name}", 4, 15)
    assert agent.name.span.text == "a"
    assert agent.span.text == text[text.index("agent") : -1]


@pytest.mark.parametrize(
    ("written", "parts"),
    [
        ('""', ()),
        ('"  a b  "', ("a b",)),
        ('"a\\nb"', ("a\nb",)),
        ('"a\\n  b"', ("a\n  b",)),
        ('"{{x}} {{{x}}}"', ("{x} {", "x", "}")),
        ('"\\u007bx\\u007d \\ud83d\\ude00"', ("{x} 😀",)),
        ('"""one\n   two\n     three\n   """', ("one\ntwo\n  three",)),
        ('"""\n\ta\n\n\t b\r\n\t"""', ("a\n\n b",)),
        ('"""\n    say "hi" \\""" there\n"""', ('say "hi" """ there',)),
    ],
)
def test_prompts(written: str, parts: tuple[str, ...]) -> None:
    assert tuple(p.name if isinstance(p, Placeholder) else p for p in prompt(written).parts) == parts


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("10", "10"),
        ("-3", "-3"),
        ("2e-4", "0.0002"),
        ("-0.5", "-0.5"),
        ("true", "true"),
        ("truely", "truely"),
        ('"a\\tb"', '"a\\tb"'),
        ("0..9", "0..9"),
        ("-5..-2", "-5..-2"),
        ('[1, [a], "b",]', '[1 [a] "b"]'),
        ("[]", "[]"),
    ],
)
def test_values(written: str, shown: str) -> None:
    assert f"default={shown})" in dump(tree(f"mas 1 param x: int = {written}"), spans=False)


def test_keywords_are_names_where_they_can_be() -> None:
    file = tree(
        'mas 1 model model = "x" param param: int = 1 agent agent on model { user "x" think param adapt none answer }\n'
        "graph graph(system, user) -> answer { agent -> repeat : on(as = mas as train) on = model(think) train }\n"
        "train { answer <- train steps agent on off }"
    )
    graph, train = file.declarations[-2:]
    assert isinstance(graph, Graph)
    assert isinstance(train, Train)
    assert [type(statement).__name__ for statement in graph.body] == ["Edge", "Instance", "Lone"]
    assert [entry.name.text for entry in train.entries if isinstance(entry, Setting)] == ["steps", "on"]


EDGE = "an edge is `a -> b : kv(carry = own)`, several agents at an end `[a, b]`"
CASES = {
    "empty": ("", ["E0101 1:1 '' the version line is missing | write `mas 1` on the first line"]),
    "no version": (
        'model m = "x"',
        ["E0101 1:1 'model' the version line is missing | write `mas 1` on the first line"],
    ),
    "mass 1": ("mass 1", ["E0101 1:1 'mass' the version line is missing | did you mean `mas`?"]),
    "new version": (
        "mas 2",
        ["E0102 1:5 '2' version 2 of the language is unknown | this masc reads version 1: write `mas 1`"],
    ),
    "two version lines": (
        "mas 1\nmas 1",
        ["E0103 2:1 'mas' expected a declaration, found `mas` | `mas 1` stands on the first line and nowhere else"],
    ),
    "misspelt declaration": (
        'mas 1\nagnet a on m { user "x" }',
        ["E0104 2:1 'agnet' unknown keyword `agnet` | did you mean `agent`?"],
    ),
    "misspelt member": (
        "mas 1\nagent a on m { thnk 3 }",
        ["E0104 2:16 'thnk' unknown keyword `thnk` | did you mean `think`?"],
    ),
    "misspelt repeat": (
        "mas 1\ngraph g() -> a { repaet 2 { a -> b } c -> d }",
        ["E0104 2:18 'repaet' unknown keyword `repaet` | did you mean `repeat`?"],
    ),
    "two arrows": (
        "mas 1\ngraph g() -> a {\n  a -> -> b\n  c -> d : : kv\n}",
        [
            f"E0103 3:8 '->' expected `[` or a name, found `->` | {EDGE}",
            f"E0103 4:12 ':' expected a name, found `:` | {EDGE}",
        ],
    ),
    "no colon": (
        "mas 1\ngraph g() -> a { a -> b kv(carry = own) }",
        [
            "E0103 2:27 '(' expected `}`, `=`, `->` or a statement, found `(`"
            " | a channel stands after a colon: `: kv(...)`"
        ],
    ),
    "no comma": ("mas 1\ngraph g(a b) -> a { }", ["E0103 2:11 'b' `,` is missing before `b`"]),
    "no equals": ('mas 1\nmodel m "x"', ["E0103 2:9 '\"x\"' `=` is missing before a string"]),
    "no on": ("mas 1\nagent a m { answer }", ["E0103 2:9 'm' `on` is missing before `m`"]),
    "stray brace": (
        'mas 1\n}\nmodel m = "x"',
        ["E0103 2:1 '}' expected a declaration, found `}` | there is no open block here"],
    ),
    "open block": ("mas 1\nagent a on m {\n", ["E0105 2:15 '' the file ends where `}` is expected"]),
    "open block before the next": (
        "mas 1\ngraph g() -> a {\n  a -> b : kv\ntrain { steps 3 }",
        ["E0105 4:1 'train' `train` begins where `}` is expected"],
    ),
    "open statement": ("mas 1\nmodel m =", ["E0105 2:10 '' the file ends where a string is expected"]),
    "open strings": (
        'mas 1\nmodel m = "x\nmodel n = """y\nz',
        [
            "E0106 2:11 '\"x' this string is not closed | close it with `\"` on the same line",
            'E0106 3:11 \'"""y\' this string is not closed | close it with `"""`',
        ],
    ),
    "number": (
        "mas 1\nparam x: int = .5",
        ["E0109 2:16 '.5' `.5` is not a number | write a digit before the point: 0.5"],
    ),
    "number with letters": (
        "mas 1\nparam x: int = 1e999",
        [
            "E0109 2:16 '1e999' `1e999` is not a number | numbers look like 8, -1, 0.05, 2e-4 and have at most 64 bits;"
            " a name starts with a letter"
        ],
    ),
    "range": ("mas 1\nparam x: int = 1..2.5", ["E0109 2:16 '1..2.5' the ends of a range are whole numbers"]),
    "quotes": (
        "mas 1\nmodel m = 'x'",
        ['E0110 2:11 "\'" `\'` means nothing here | strings stand in double quotes, `"..."`'] * 1,
    ),
    "umlaut": (
        'mas 1\nmodel größe = "x"',
        ["E0111 2:7 'größe' `größe` cannot be a name | a name is made of the letters a to z, digits and `_`"],
    ),
    "escape": (
        'mas 1\nmodel m = "a\\q"',
        [
            "E0107 2:13 '\\\\q' `\\q` is no escape | the escapes are \\\" \\\\ \\/ \\b \\f \\n \\r \\t and \\uXXXX;"
            " write \\\\ for a backslash"
        ],
    ),
    "placeholders": (
        'mas 1\nagent a on m {\n  user """\n    {q} } {a b} { a }\n    {\n    """\n}',
        [
            "E0108 4:9 '}' `}` closes no placeholder | write `}}` for a brace",
            "E0108 4:11 '{a b}' `{a b}` is not a placeholder | a placeholder is `{name}`; write `{{` for a brace",
            "E0108 4:17 '{ a }' `{ a }` is not a placeholder | write `{a}`",
            "E0108 5:5 '{' `{` opens a placeholder that is not closed | write `{{` for a brace",
        ],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_diagnostics(name: str) -> None:
    text, expected = CASES[name]
    _, diagnostics = parse(Source("a.mas", text))
    found = []
    for d in diagnostics:
        assert d.span
        hint = f" | {d.hint}" if d.hint else ""
        found.append(f"{d.code} {d.span.line}:{d.span.column} {d.span.text!r} {d.message}{hint}")
    assert found[: len(expected)] == expected
    assert len(found) == len(expected) or name == "quotes"


def test_what_could_be_read_is_kept() -> None:
    file, diagnostics = parse(
        Source(
            "a.mas",
            """mas 1
agnet planner small {
  user "{question"
  thnk 10
  adapt lora(rank = 8 alpha = 16)
}
model small = small
graph g(q) -> a {
  a -> -> b : kv
  c -> d : kv(carry = own)
train { batch 8 }
""",
        )
    )
    assert [d.code for d in diagnostics] == ["E0104", "E0103", "E0108", "E0104", "E0103", "E0103", "E0103", "E0105"]
    assert file
    assert [type(item).__name__ for item in file.declarations] == ["Agent", "Graph", "Train"]
    agent, graph, _ = file.declarations
    assert isinstance(agent, Agent)
    assert isinstance(graph, Graph)
    assert (len(agent.members), len(graph.body)) == (3, 1)


def test_errors_are_few_however_broken_the_file() -> None:
    _, diagnostics = parse(Source("a.mas", "mas 1\n" + "agent ) (\n" * 500))
    assert 1 < len(diagnostics) <= MOST_ERRORS + 1


@pytest.mark.parametrize("mark", ["[", "{", "("])
def test_deep_nesting_is_refused(mark: str) -> None:
    file, diagnostics = parse(Source("a.mas", "mas 1 param x: int = " + mark * 100_000))
    assert file is None
    assert [d.code for d in diagnostics] == ["E0112"]


def test_windows_line_ends_and_byte_order_mark() -> None:
    assert tree("\ufeff" + SKETCH.replace("\n", "\r\n")) == tree(SKETCH)


def test_true_is_not_one() -> None:
    file = tree("mas 1 param a: bool = true param b: int = 1")
    values = [item.default for item in file.declarations if isinstance(item, Param)]
    assert [getattr(value, "value", None) for value in values] == [True, 1]
    assert "default=true" in dump(file)


def test_a_setting_that_looks_like_a_declaration() -> None:
    (train,) = tree('mas 1\ntrain {\n  import "x"\n  model a\n  agent on\n}').declarations
    assert isinstance(train, Train)
    assert len(train.entries) == 3
