"""Templates: the agents that are made of them, and what is said where none can be."""

from __future__ import annotations

from pathlib import Path

import pytest

from masc.compiler.ir.adapter import Lora
from masc.compiler.ir.graph import Agent
from masc.compiler.ir.plan import Slot
from masc.compiler.pipeline import Compilation, compile_file, compile_source
from masc.dsl.diagnostics import Diagnostic
from masc.dsl.formatter import format_file
from masc.dsl.read import read_source
from masc.dsl.source import Source
from masc.dsl.yaml_writer import format_yaml
from teams import said

TEAM = """\
mas 1
model m = "no-one/not-on-disk"
param depth: int = 2
agent expert(field: text, n: int) on m {
  system "You know {field}."
  user "{question} {n}"
  think n
}
agent solver on m {
  user "{question}"
  answer
}
graph g(question) -> answer {
  maths = expert("mathematics", depth)
  maths -> solver : kv
}
"""
CALL = 'expert("mathematics", depth)'


def team(**replaced: str) -> Compilation:
    """The team with another call, fields, body or edges."""
    text = TEAM.replace(CALL, replaced.get("call", CALL))
    text = text.replace("field: text, n: int", replaced.get("fields", "field: text, n: int"))
    text = text.replace("  think n\n", replaced.get("body", "  think n\n"))
    text = text.replace("  maths -> solver : kv", replaced.get("edges", "  maths -> solver : kv"))
    return compile_source(Source("x.mas", text), set={k: v for k, v in replaced.items() if k == "depth"})


def maths(compilation: Compilation) -> Agent:
    assert compilation.graph is not None, said(compilation)
    return compilation.graph.agent("maths")


def test_an_instance_is_an_agent_of_its_own_name() -> None:
    compilation = team()
    assert said(compilation) == []
    assert compilation.plan is not None
    agent = maths(compilation)
    assert (agent.system, agent.user, agent.steps) == (("You know mathematics.",), (Slot("question"), " 2"), 2)
    assert (agent.span.line, agent.span.text) == (14, "maths")
    written = TEAM.replace("expert(field: text, n: int)", "maths").replace("{field}", "mathematics")
    written = written.replace("{n}", "2").replace("think n", "think depth").replace(f"  maths = {CALL}\n", "")
    plan, other = compilation.require(), compile_source(Source("x.mas", written)).require()
    assert plan.turns == other.turns  # the loss names adapters in the order of their declaration
    assert set(plan.agents) == set(other.agents)


def test_params_as_arguments_can_be_set() -> None:
    agent = maths(team(depth="7"))
    assert (agent.steps, agent.user) == (7, (Slot("question"), " 7"))


def test_two_instances_have_an_adapter_each() -> None:
    plan = team(call=f'{CALL}\n  physics = expert("physics", 3)', edges="  maths -> physics -> solver : kv").require()
    assert [(a.name, a.lora) for a in plan.agents] == [(name, Lora()) for name in ("solver", "maths", "physics")]


def test_instances_in_a_repeat_are_known_everywhere() -> None:
    body = '  repeat 2 {\n    maths -> physics -> maths : kv\n    physics = expert("b", 3)\n  }\n  maths -> solver : kv'
    graph = team(call='expert("a", depth)', edges=body).graph
    assert graph is not None
    assert {a.agent for a in graph.activations} == {"maths", "physics", "solver"}
    assert len(graph.activations) > 3


# the fields' types, the arguments, and the text of the prompt
TEXTS = [
    ("text", '"a {{question}} {{b}} c"', "a {question} {b} c"),
    ("text", '""', ""),
    ("int", "07", "7"),
    ("float", "2", "2"),
    ("float", "2.0", "2.0"),
    ("float", "1e-4", "1e-4"),
    ("bool", "true", "true"),
    ("int", "depth", "2"),
]


@pytest.mark.parametrize(("kind", "argument", "text"), TEXTS)
def test_fields_in_prompts(kind: str, argument: str, text: str) -> None:
    body = "  adapt lora(rank = n)\n  think 1\n"
    compilation = team(fields=f"field: {kind}, n: int", call=f"expert({argument}, 5)", body=body)
    agent = maths(compilation)
    assert agent.system == (f"You know {text}.",)
    assert agent.lora is not None
    assert agent.lora.rank == 5


@pytest.mark.parametrize(("kind", "argument", "text"), TEXTS)
def test_formatting_does_not_change_an_instance(kind: str, argument: str, text: str) -> None:
    source = TEAM.replace("field: text", f"field: {kind}").replace('"mathematics"', argument)
    tree, _ = read_source(Source("x.mas", source))
    assert tree is not None
    formatted = compile_source(Source("x.mas", format_file(tree))).require()
    assert formatted == compile_source(Source("x.mas", source)).require()


def test_fields_shadow_params() -> None:
    compilation = team(fields="field: text, depth: int, n: int", call='expert("x", 5, 6)', body="  think depth\n")
    assert maths(compilation).steps == 5
    assert said(compilation) == ["W0202"]


def test_fields_hold_an_options_word() -> None:
    compilation = team(call='expert("linear", 5)', body="  think n (align = field)\n")
    assert maths(compilation).align == "linear"


def test_a_template_of_another_file_is_read_there(tmp_path: Path) -> None:
    template = TEAM[TEAM.index("agent expert") : TEAM.index("agent solver")]
    roles = 'mas 1\nmodel m = "no-one/else"\nparam depth: int = 9\n' + template.replace("think n", "think depth")
    (tmp_path / "roles.mas").write_text(roles)
    main = TEAM.replace(template, "").replace("mas 1\n", 'mas 1\nimport "roles.mas" (expert)\n')
    compilation = compile_source(Source("x.mas", main.replace(": kv", ": hidden")), base=tmp_path)
    agent = maths(compilation)
    assert (agent.model, agent.steps, agent.user) == ("m_roles", 9, (Slot("question"), " 2"))


# what is replaced, then code, line, column, the texts that the labels point at, words of message or hint
WRONG = [
    ({"call": 'expert("x")'}, "E0214", 14, 3, ["field: text, n: int"], "takes 2 arguments, not 1"),
    ({"call": 'expert("x", 1, 2)'}, "E0214", 14, 3, ["field: text, n: int"], "takes 2 arguments, not 3"),
    ({"call": 'expert("x", "y")'}, "E0403", 14, 23, ["n: int"], "takes a whole number for `n`, not the text"),
    ({"call": 'expert("x", 1.5)'}, "E0403", 14, 23, ["n: int"], "not 1.5"),
    ({"call": 'expert("x", true)'}, "E0403", 14, 23, ["n: int"], "not true"),
    ({"call": 'expert("x", 1..2)'}, "E0403", 14, 23, ["n: int"], "not the range"),
    ({"call": "expert(depth, 1)"}, "E0403", 14, 18, ["field: text", "param depth: int = 2"], "a text in quotes"),
    ({"call": 'expert("x", dept)'}, "E0201", 14, 23, [], "did you mean `depth`?"),
    ({"call": "expert(mathematics, 1)"}, "E0201", 14, 18, [], "text stands in quotes"),
    ({"call": 'expert("x", -1)'}, "E0404", 7, 9, ["-1"], "at least 0"),
    ({"call": 'exprt("x", 1)'}, "E0201", 14, 11, [], "did you mean `expert`?"),
    ({"call": 'solver("x", 1)'}, "E0213", 14, 11, ["solver"], "is an agent, not a template"),
    ({"call": f"{CALL}\n  maths = {CALL}"}, "E0202", 15, 3, ["maths"], "the agent `maths`"),
    ({"call": f"{CALL}\n  solver = {CALL}"}, "E0202", 15, 3, ["solver"], "the agent `solver`"),
    ({"call": f"{CALL}\n  expert = {CALL}"}, "E0202", 15, 3, ["expert"], "the agent `expert`"),
    ({"call": f"{CALL}\n  question = {CALL}"}, "E0204", 13, 9, None, "both an agent and an input"),
    ({"call": f"{CALL}\n  layers = {CALL}"}, "E0203", 15, 3, [], "another name"),
    ({"edges": "  [maths, expert, expert] -> solver : kv"}, "E0212", 15, 11, ["expert"], "name = expert(...)"),
    ({"fields": "field: text, n: integer"}, "E0405", 4, 30, [], "did you mean `int`?"),
    ({"fields": "field: text, n: int, n: int"}, "E0202", 4, 35, ["n"], "the field `n` of `expert`"),
    ({"body": "  think 1\n  think 1\n"}, "E0202", 8, 3, ["think 1"], "`think` of `expert`"),
    ({"body": "  think 1 (aligne = ridge)\n"}, "E0401", 7, 12, [], "did you mean `align`?"),
    ({"fields": "field: text, n: int, m: int", "call": 'expert("x", 1, 2)'}, "W0207", 4, 35, [], "its field `m`"),
    ({"call": 'expert("x", 1)\n  other = expert("y", 1)'}, "W0203", 15, 3, [], "not in the graph"),
]


@pytest.mark.parametrize(("replaced", "code", "line", "column", "labels", "words"), WRONG)
def test_wrong_templates(
    replaced: dict[str, str], code: str, line: int, column: int, labels: list[str] | None, words: str
) -> None:
    compilation = team(**replaced)
    assert {d.code for d in compilation.diagnostics if d.severity == "error"} <= {code}
    found: Diagnostic = next(d for d in compilation.diagnostics if d.code == code)
    assert found.span is not None
    assert (found.span.line, found.span.column) == (line, column)
    if labels is not None:
        assert [label.span.text for label in found.labels] == labels
    assert words in f"{found.message} {found.hint}"


def test_a_template_without_instances_is_read_but_only_as_far_as_its_fields_go() -> None:
    text = TEAM.replace(f"  maths = {CALL}\n", "").replace("maths -> solver : kv", "solver")
    assert said(compile_source(Source("x.mas", text))) == ["W0202", "W0206"]
    used = text.replace("think n", "think depth (align = field)").replace('"{question} {n}"', '"{question}"')
    assert said(compile_source(Source("x.mas", used))) == ["W0206", "W0207"]
    assert said(compile_source(Source("x.mas", used.replace("on m {", "on k {", 1)))) == ["W0206", "W0207", "E0201"]


def test_what_is_wrong_in_a_template_is_said_once() -> None:
    compilation = team(
        call=f"{CALL}\n  physics = {CALL}", edges="  [maths, physics] -> solver : kv", body="  think -1\n"
    )
    assert said(compilation) == ["E0404"]


def test_yaml_has_templates_too() -> None:
    text = """\
mas: 1
models: {m: no-one/not-on-disk}
params: {depth: 2}
agents:
  expert: {on: m, fields: {field: text, n: int}, system: "You know {field}.", user: "{question} {n}", think: n}
  solver: {on: m, user: "{question}", answer: {}}
graph:
  name: g
  inputs: [question]
  outputs: [answer]
  body: ['maths = expert("mathematics", depth)', 'maths -> solver : kv']
"""
    compilation = compile_source(Source("x.yaml", text))
    assert said(compilation) == []
    assert compilation.require() == team().require()


READERS = """\
mas 1
model m = "no-one/not-on-disk"
param part: text = "a param"
agent reader(part: input, how: text) on m {
  system "You read {how}."
  user "{how}: {part}, {part}"
  think 2
}
agent solver on m {
  user "{question}"
  answer
}
graph g(question, left, right) -> answer {
  a = reader(left, "slowly")
  b = reader(right, part)
  [a, b] -> solver : kv
}
"""


def readers(old: str = "", new: str = "") -> Compilation:
    assert old in READERS
    return compile_source(Source("x.mas", READERS.replace(old, new)))


def test_an_argument_may_be_an_input() -> None:
    compilation = readers()
    assert said(compilation) == []
    plan = compilation.require()
    assert plan.agent("a").user == ("slowly: ", Slot("left"), ", ", Slot("left"))
    assert plan.agent("b").user == ("a param: ", Slot("right"), ", ", Slot("right"))


def test_an_input_as_argument_means_what_the_placeholder_does() -> None:
    written = (
        READERS.replace("reader(part: input, how: text)", "a").replace("{how}", "slowly").replace("{part}", "{left}")
    )
    written = written.replace('  a = reader(left, "slowly")\n  b = reader(right, part)\n', "").replace("[a, b]", "a")
    plan = readers("  b = reader(right, part)\n  [a, b]", "  a").require()
    other = compile_source(Source("x.mas", written)).require()
    assert plan.agent("a") == other.agent("a")


def test_an_input_that_only_templates_read_is_read() -> None:
    assert said(readers("reader(right, part)", "reader(left, part)")) == ["W0204"]
    assert said(readers('"{question}"', '"Well?"')) == ["W0204"]


def test_inputs_win_over_params_where_an_input_is_wanted() -> None:
    text = READERS.replace("param part", 'param left: text = "no"\nparam part')
    plan = compile_source(Source("x.mas", text)).require()
    assert Slot("left") in plan.agent("a").user


WRONG_INPUTS = [
    ("reader(left,", 'reader("left",', "E0403", "write `left`"),
    ("reader(left,", 'reader("{left}",', "E0403", "write `left`"),
    ("reader(left,", "reader(3,", "E0403", None),
    ("reader(left,", "reader(part,", "E0403", None),
    ("reader(left,", "reader(lefft,", "E0201", "did you mean `left`?"),
    ("reader(left,", "reader(a,", "E0201", "the inputs are question, left, right"),
    ('"slowly"', "left", "E0403", "`how: input`"),
    ('"slowly"', '"{right}"', "E0410", "the type `input`"),
    ('"slowly"', '"{what}"', "E0410", "write `{{`"),
    ('"slowly"', '"a } b"', "E0410", "write `{{`"),
    ('"slowly"', '"{{{right}}}"', "E0410", None),
    ('"a param"', '"{right}"', "E0410", "the type `input`"),
    ("think 2", "think part", "E0403", "says `{part}`"),
    ("part: input", "part: inputt", "E0405", "did you mean `input`?"),
    ('part: text = "a', 'part: input = "a', "E0405", None),
]


@pytest.mark.parametrize(("old", "new", "code", "hint"), WRONG_INPUTS)
def test_what_is_no_input(old: str, new: str, code: str, hint: str | None) -> None:
    found = [d for d in readers(old, new).diagnostics if d.severity == "error"]
    assert {d.code for d in found} == {code}
    assert hint is None or hint in (found[0].hint or "")


def test_doubled_braces_in_an_argument_are_braces() -> None:
    plan = readers('"slowly"', '"{{like}} }}this{{"').require()
    assert plan.agent("a").user[0] == "{like} }this{: "


def test_inputs_as_arguments_in_yaml_and_through_imports(tmp_path: Path) -> None:
    head, _, tail = READERS.partition("agent solver")
    (tmp_path / "readers.mas").write_text(head)
    main = (
        head.partition("agent reader")[0].replace("mas 1", 'mas 1\nimport "readers.mas" (reader)')
        + "agent solver"
        + tail
    )
    (tmp_path / "main.mas").write_text(main)
    file, _ = read_source(Source("x.mas", main))
    assert file is not None
    (tmp_path / "main.yaml").write_text(format_yaml(file))
    plans = [compile_file(tmp_path / name).require() for name in ("main.mas", "main.yaml")]
    assert plans[0] == plans[1]
    assert plans[0].agents[-2:] == readers().require().agents[-2:]
    whole, _ = read_source(Source("x.mas", READERS))
    assert whole is not None
    assert compile_source(Source("x.yaml", format_yaml(whole))).require() == readers().require()
