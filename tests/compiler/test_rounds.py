"""`repeat`, other edges than kv, and the text channel: from source to what the plan says."""

from __future__ import annotations

import pytest

from masc.compiler.analysis.sights import sights
from masc.compiler.channels.hidden import Splice
from masc.compiler.forms.plan_parse import parse_plan
from masc.compiler.forms.plan_text import print_plan, print_turns
from masc.compiler.pipeline import Compilation, compile_source
from masc.dsl.source import Source
from teams import reached, said

AGENTS = """
mas 1
model m = "no-one/not-on-disk"
model n = "no-one/another"
agent a on m { user "a {q}" think 2 }
agent b on m { user "b {q}" think 3 }
agent c on n { user "c {q}" think 1 }
agent d on m { user "d {q}" answer }
agent e on n { user "e {q} {d}" answer }
"""


def compiled(body: str, agents: str = AGENTS, **options: object) -> Compilation:
    """A graph body; agents that it does not name are left out of the file."""
    lines = [
        line
        for line in agents.strip().splitlines()
        if not line.startswith("agent") or f" {line.split()[1]} " in f" {body.translate(str.maketrans('[],', '   '))} "
    ]
    lines = [x for x in lines if not x.startswith("model") or any(f" on {x.split()[1]} " in line for line in lines)]
    text = "\n".join(lines) + f"\ngraph g(q) -> answer {{ {body} }}\n"
    return compile_source(Source("g.mas", text), **options)  # type: ignore[arg-type]


def runs(compilation: Compilation) -> dict[str, list[str]]:
    """By activation: what comes to it, in words."""
    found: dict[str, list[str]] = {}
    plan = compilation.require()
    for turn, views in zip(plan.turns, sights(plan).values(), strict=True):
        found[turn.activation] = [view.segment for view in views]
        found[turn.activation] += [f"{arrival.word} {arrival.segment}" for arrival in turn.arrives]
    return found


OWN = ": kv(carry = own)"
ROUNDS = {
    "edges run in textual order, the last activation answers": (
        f"repeat 2 {{ d -> b {OWN}  b -> d {OWN} }}",
        {"d#1": [], "b#1": ["d#1"], "d#2": ["b#1"], "b#2": ["d#2"], "d#3": ["b#2"]},
    ),
    "the other order needs one activation fewer": (
        f"repeat 2 {{ b -> d {OWN}  d -> b {OWN} }}",
        {"b#1": [], "d#1": ["b#1"], "b#2": ["d#1"], "d#2": ["b#2"]},
    ),
    "edges from outside feed every activation": (
        f"a -> d {OWN}  repeat 2 {{ b -> d {OWN}  d -> b {OWN} }}",
        {"a#1": [], "b#1": [], "d#1": ["a#1", "b#1"], "b#2": ["d#1"], "d#2": ["a#1", "b#2"]},
    ),
    "outside the order of edges means nothing": (
        f"repeat 2 {{ b -> d {OWN}  d -> b {OWN} }}  a -> d {OWN}",
        {"a#1": [], "b#1": [], "d#1": ["b#1", "a#1"], "b#2": ["d#1"], "d#2": ["b#2", "a#1"]},
    ),
    "an agent that nothing is sent to is active once": (
        f"repeat 3 {{ a -> d {OWN}  b -> d {OWN} }}",
        {"a#1": [], "b#1": [], "d#1": ["a#1", "b#1"]},
    ),
    "a chain in a round": (
        f"repeat 2 {{ a -> b -> d {OWN}  d -> a {OWN} }}",
        {"a#1": [], "b#1": ["a#1"], "d#1": ["b#1"], "a#2": ["d#1"], "b#2": ["a#2"], "d#2": ["b#2"]},
    ),
    "what leaves a repeat is its last activation": (
        f"repeat 2 {{ a -> b {OWN}  b -> a {OWN} }}  a -> d {OWN}",
        {"a#1": [], "b#1": ["a#1"], "a#2": ["b#1"], "b#2": ["a#2"], "a#3": ["b#2"], "d#1": ["a#3"]},
    ),
    "nested": (
        f"repeat 2 {{ repeat 2 {{ a -> b {OWN}  b -> a {OWN} }}  a -> d {OWN} d -> a {OWN} }}",
        {
            "a#1": [],
            "b#1": ["a#1"],
            "a#2": ["b#1"],
            "b#2": ["a#2"],
            "a#3": ["b#2"],
            "d#1": ["a#3"],
            "a#4": ["b#2", "d#1"],
            "b#3": ["a#4"],
            "a#5": ["b#3", "d#1"],
            "b#4": ["a#5"],
            "a#6": ["b#4", "d#1"],
            "d#2": ["a#6"],
        },
    ),
    "one repeat after another on one agent": (
        f"repeat 1 {{ a -> d {OWN}  d -> a {OWN} }}  repeat 1 {{ a -> b {OWN}  b -> d {OWN} }}",
        {"a#1": [], "d#1": ["a#1"], "a#2": ["d#1"], "b#1": ["a#2"], "d#2": ["a#1", "b#1"]},
    ),
    "edges of several kinds between two agents are one turn": (
        f"repeat 2 {{ a -> b {OWN}  a -> b : hidden  b -> a : fuse }}  b -> d {OWN}",
        {"a#1": [], "b#1": ["a#1", "splices a#1"], "a#2": ["fuses b#1"], "b#2": ["a#2", "splices a#2"], "d#1": ["b#2"]},
    ),
    "two models": ("a -> c : hidden  c -> d : fuse", {"a#1": [], "c#1": ["splices a#1"], "d#1": ["fuses c#1"]}),
    "text": ("a -> d : kv  d -> e : text", {"a#1": [], "d#1": ["a#1"], "e#1": ["reads d#1"]}),
}


@pytest.mark.parametrize("name", ROUNDS)
def test_what_comes_to_each_activation(name: str) -> None:
    body, want = ROUNDS[name]
    compilation = compiled(body)
    assert [code for code in said(compilation) if code[0] == "E"] == []
    found = runs(compilation)
    assert {a: sorted(x) for a, x in found.items()} == {a: sorted(x) for a, x in want.items()}
    # Every order in which senders come first will do: the plan's is one.
    assert set(found) == set(want)


@pytest.mark.parametrize("name", ROUNDS)
def test_plans_of_all_kinds_parse_back(name: str) -> None:
    plan = compiled(ROUNDS[name][0]).require()
    assert parse_plan(print_plan(plan)) == plan
    from masc.compiler.forms.plan_json import dump_plan, load_plan

    assert load_plan(dump_plan(plan)) == plan


def test_one_adapter_for_all_rounds() -> None:
    plan = compiled(ROUNDS["nested"][0]).require()
    assert [agent.name for agent in plan.agents] == ["a", "b", "d"]


def test_an_answering_agent_decodes_only_where_its_text_leaves() -> None:
    plan = compiled(f"repeat 3 {{ d -> b {OWN}  b -> d {OWN} }}").require()
    assert [(turn.activation, turn.answer and turn.answer.output) for turn in plan.answering] == [("d#4", "answer")]
    plan = compiled("a -> d : kv  d -> e : text").require()
    assert [(turn.activation, turn.answer and turn.answer.output) for turn in plan.answering] == [
        ("d#1", None),
        ("e#1", "answer"),
    ]


WRONG = {
    "a cycle outside of a repeat": (f"a -> b {OWN} b -> a {OWN} a -> d {OWN}", "E0305"),
    "a cycle through a repeat": (f"repeat 2 {{ a -> b {OWN} b -> a {OWN} }} b -> d {OWN} d -> a {OWN}", "E0305"),
    "an edge outside of its repeat": (f"repeat 2 {{ a -> d {OWN} d -> a {OWN} }} a -> d : hidden", "E0321"),
    "far too many rounds": (f"repeat 20000 {{ a -> d {OWN} d -> a {OWN} }}", "E0322"),
    "nested far too many": (f"repeat 200 {{ repeat 200 {{ a -> d {OWN} d -> a {OWN} }} d -> a : hidden }}", "E0322"),
    "far too many around one": (f"repeat 1000000000 {{ repeat 1 {{ a -> d {OWN} }} }}", "E0322"),
    "no rounds": (f"repeat 0 {{ a -> d {OWN} d -> a {OWN} }}", "E0404"),
    "half a round": (f"repeat 1.5 {{ a -> d {OWN} d -> a {OWN} }}", "E0403"),
    "an empty repeat": ("repeat 2 { } d", "E0323"),
    "the same edge twice": (f"repeat 2 {{ a -> d {OWN} d -> a {OWN} a -> d {OWN} }}", "E0304"),
    "text without words": ("a -> d : text", "E0324"),
    "nothing of a repeat is used": (f"repeat 2 {{ a -> b {OWN} b -> a {OWN} }} d", "E0306"),
    "kv between two models": ("a -> c : kv  c -> d : hidden", "E0314"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_refused(name: str) -> None:
    body, code = WRONG[name]
    assert code in said(compiled(body))


def test_fuse_wants_an_input_in_common() -> None:
    agents = AGENTS.replace('"d {q}"', '"d"')
    assert "E0325" in said(compiled("a -> d : fuse", agents))


def test_check_says_which_adapters_text_leaves_without_a_gradient() -> None:
    compilation = compiled("a -> d : kv  d -> e : text")
    warned = [d for d in compilation.diagnostics if d.code == "W0303"]
    assert [d.message.split("`")[1] for d in warned] == ["a", "d"]
    assert all(label.text == "no gradient crosses text" for d in warned for label in d.labels)
    assert "train { d <- column }" in (warned[0].hint or "")
    supervised = AGENTS + "train { d <- plan }\n"
    lines = supervised.replace("agent c", "#gent c").replace("agent b", "#gent b")
    text = lines + "graph g(q) -> answer { a -> d : kv  d -> e : text }\n"
    compilation = compile_source(Source("g.mas", text))
    assert "W0303" not in said(compilation)
    assert reached(compilation.require()) == ["e", "a, d"]


def test_reach_crosses_hidden_and_fuse_edges() -> None:
    compilation = compiled("a -> c : hidden(gradient = stop)  c -> d : hidden  b -> d : fuse")
    assert reached(compilation.require()) == ["b.kv(-1), c, d, hidden(c, d), fuse(b, d), hidden(a, c)"]


# -- the text channel --------------------------------------------------------------------------------------------------


def test_the_text_channel_replaces_every_edge_by_text() -> None:
    plan = compiled("a -> b -> d : kv  a -> c : hidden  c -> d : fuse", channel="text").require()
    found = runs(compiled("a -> b -> d : kv  a -> c : hidden  c -> d : fuse", channel="text"))
    # `carry = trace` hands on all that its sender read; hidden and fuse only what their sender says.
    assert found == {
        "a#1": [],
        "b#1": ["reads a#1"],
        "c#1": ["reads a#1"],
        "d#1": ["reads a#1", "reads b#1", "reads c#1"],
    }
    assert "think" not in print_turns(plan)
    assert len(plan.answering) == 4


def test_the_text_channel_hands_on_what_a_trace_would() -> None:
    """Not what a sender got otherwise than as keys and values, and nothing through a cut edge."""
    assert runs(compiled("a -> b : hidden  b -> d : kv", channel="text"))["d#1"] == ["reads b#1"]
    body = "a -> b -> d : kv"
    assert runs(compiled(body, channel="text"))["d#1"] == ["reads a#1", "reads b#1"]
    assert runs(compiled(body, channel="text", cut=(("a", "b"),)))["d#1"] == ["reads b#1"]


def test_a_mistake_in_a_repeat_is_told_once() -> None:
    assert said(compiled("repeat 2 { a -> a : kv } d")).count("E0323") == 0


def test_the_text_channel_keeps_rounds() -> None:
    found = runs(compiled(f"repeat 2 {{ b -> d {OWN}  d -> b {OWN} }}", channel="text"))
    assert found == {"b#1": [], "d#1": ["reads b#1"], "b#2": ["reads d#1"], "d#2": ["reads b#2"]}


def test_cutting_every_kind() -> None:
    body = "a -> d : kv(carry = own)  a -> d : hidden  a -> d : fuse"
    cut = compiled(body, cut=(("a", "d"),)).require()
    turn = cut.turn("d#1")
    assert sights(cut)["d#1"] == ()
    assert turn.arrives == (Splice("a#1", cut=True),)
