"""What every agent sees, where it starts and what the loss reaches: expectations worked out by hand."""

from __future__ import annotations

import pytest

from masc.compiler.analysis.reach import with_reach
from masc.compiler.forms.essence import fingerprint
from masc.compiler.pipeline import compile_source
from masc.dsl.source import Source
from teams import prefills, reached, source, team

# agents, edges, {agent: what it sees and where it starts}, what the loss reaches
CASES = {
    "a chain hands on everything": (
        "a/2 b/2 c!",
        ["a -> b -> c : kv"],
        {"a": "sees [] at 0", "b": "sees [a] at end(a)", "c": "sees [a, b] at end(b)"},
        "a, b, c",
    ),
    "own: only the sender's segment": (
        "a b c!",
        ["a -> b -> c : kv(carry = own)"],
        {"b": "sees [a] at end(a)", "c": "sees [b] at end(b)"},
        "a.kv(-1), b.kv(-1), c",
    ),
    "latents: only the latent positions": (
        "a/2 b!",
        ["a -> b : kv(carry = latents)"],
        {"b": "sees [a.latents] at end(a)"},
        "a, b",
    ),
    "a fan and back": (
        "a b/1 c d!",
        ["a -> [b, c] -> d : kv"],
        {"b": "sees [a] at end(a)", "c": "sees [a] at end(a)", "d": "sees [a, b, c] at max(end(b), end(c))"},
        "a.kv(-1), b, c.kv(-1), d",
    ),
    "two paths: all is seen, the gradient passes where one of them lets it": (
        "a/2 b d!",
        ["a -> b : kv(carry = latents)", "b -> d : kv", "a -> d : kv(carry = own, gradient = stop)"],
        {"b": "sees [a.latents] at end(a)", "d": "sees [a.latents, b, a stop] at end(b)"},
        "a, b.kv(-1), d",
    ),
    "two paths: other layers, other gradients": (
        "a b d!",
        ["a -> b : kv(layers = 0..0)", "b -> d : kv", "a -> d : kv(carry = own, layers = 2..2, gradient = stop)"],
        {"d": "sees [a layers=0..0, b, a layers=2..2 stop] at end(b)"},
        "a.kv(0), b.kv(-1), d",
    ),
    "two paths: latents in some layers, all of it in others": (
        "a/2 b d!",
        ["a -> b : kv(carry = latents, layers = 0..1)", "b -> d : kv", "a -> d : kv(carry = own, layers = 2..3)"],
        {"d": "sees [a.latents layers=0..1, b, a layers=2..3] at end(b)"},
        "a, b.kv(-1), d",
    ),
    "two paths: one that is stopped and no wider says nothing": (
        "a/2 b d!",
        ["a -> b : kv", "b -> d : kv", "a -> d : kv(carry = latents, gradient = stop)"],
        {"d": "sees [a, b] at end(b)"},
        "a, b.kv(-1), d",
    ),
    "two paths, union of layers": (
        "a b d!",
        ["a -> b : kv(layers = 0..1)", "a -> d : kv(layers = 4..5)", "b -> d : kv"],
        {"d": "sees [a layers=0..1+4..5, b] at end(b)"},
        "a.kv(5), b.kv(-1), d",
    ),
    "two paths, adjacent layers join": (
        "a b d!",
        ["a -> b : kv(layers = 0..1)", "a -> d : kv(layers = 2..5)", "b -> d : kv"],
        {"d": "sees [a layers=0..5, b] at end(b)"},
        "a.kv(5), b.kv(-1), d",
    ),
    "layers along a chain intersect": (
        "a b c!",
        ["a -> b : kv(layers = 0..1)", "b -> c : kv(layers = 1..2)"],
        {"c": "sees [a layers=1..1, b layers=1..2] at end(b)"},
        "a.kv(1), b.kv(2), c",
    ),
    "layers along a chain without any in common": (
        "a b c!",
        ["a -> b : kv(layers = 0..0)", "b -> c : kv(layers = 2..2)"],
        {"c": "sees [b layers=2..2] at end(b)"},
        "a.kv(0), b.kv(2), c",
    ),
    "an own segment seen in layer 0 shows nothing of what it saw": (
        "a b c!",
        ["a -> b : kv", "b -> c : kv(carry = own, layers = 0..0)"],
        {"c": "sees [b layers=0..0] at end(b)"},
        "b.kv(0), c",
    ),
    "latents seen in layer 0 show everything": (
        "a b/1 c!",
        ["a -> b : kv", "b -> c : kv(carry = own, layers = 0..0)"],
        {"c": "sees [b layers=0..0] at end(b)"},
        "a.kv(-1), b, c",
    ),
    "stack: siblings end to end": (
        "a b c d!",
        ["[a, b, c] -> d : kv(carry = own, merge = stack)"],
        {"d": "sees [a, b shift=len(a), c shift=len(a)+len(b)] at max(end(a), end(b)+len(a), end(c)+len(a)+len(b))"},
        "a.kv(-1), b.kv(-1), c.kv(-1), d",
    ),
    "stack: shared ancestors stay": (
        "p a b d!",
        ["p -> [a, b] : kv", "[a, b] -> d : kv(merge = stack)"],
        {"d": "sees [p, a, b shift=len(a)] at max(end(a), end(b)+len(a))"},
        "p.kv(-1), a.kv(-1), b.kv(-1), d",
    ),
    "stack: one that saw the other lies behind it already": (
        "a b d!",
        ["a -> b : kv", "[a, b] -> d : kv(merge = stack)"],
        {"d": "sees [a, b] at end(b)"},
        "a.kv(-1), b.kv(-1), d",
    ),
    "stack: the same, named the other way round": (
        "a b d!",
        ["a -> b : kv", "[b, a] -> d : kv(merge = stack)"],
        {"d": "sees [a, b] at end(b)"},
        "a.kv(-1), b.kv(-1), d",
    ),
    "stack: what was moved stays moved, also where it arrives unmoved as well": (
        "a b d e!",
        ["[a, b] -> d : kv(merge = stack)", "b -> e : kv", "d -> e : kv"],
        {"e": "sees [b shift=len(a), a, d] at end(d)"},
        "a.kv(-1), b.kv(-1), d.kv(-1), e",
    ),
    "open: as own for a while": (
        "a/2 b!",
        ["a -> b : kv(carry = latents, open = 40)"],
        {"b": "sees [a.latents, a until=40] at end(a)"},
        "a, b",
    ),
    "open as trace": (
        "x a/2 b!",
        ["x -> a : kv", "a -> b : kv(carry = latents, open = 40 as trace)"],
        {"b": "sees [a.latents, x until=40, a until=40] at end(a)"},
        "x.kv(-1), a, b",
    ),
    "open: inherited by a trace": (
        "a/2 b c!",
        ["a -> b : kv(carry = latents, open = 40)", "b -> c : kv"],
        {"c": "sees [a.latents, a until=40, b] at end(b)"},
        "a, b.kv(-1), c",
    ),
    "open: not inherited by own": (
        "a/2 b c!",
        ["a -> b : kv(carry = latents, open = 40)", "b -> c : kv(carry = own)"],
        {"c": "sees [b] at end(b)"},
        "a, b.kv(-1), c",
    ),
    "open: the shorter of two": (
        "a/2 b/2 c!",
        ["a -> b : kv(carry = latents, open = 40)", "b -> c : kv(carry = latents, open = 10 as trace)"],
        {"c": "sees [b.latents, a until=10, b until=10] at end(b)"},
        "a, b, c",
    ),
    "open: dropped where something wider stays": (
        "a/2 b c!",
        ["a -> b : kv(carry = latents, open = 40)", "[a, b] -> c : kv"],
        {"c": "sees [a, b] at end(b)"},
        "a, b.kv(-1), c",
    ),
    "open: kept where it alone lets the gradient through": (
        "a b c!",
        ["a -> b : kv(carry = latents, open = 40)", "b -> c : kv", "a -> c : kv(carry = own, gradient = stop)"],
        {"b": "sees [a until=40] at end(a)", "c": "sees [a until=40, b, a stop] at end(b)"},
        "b.kv(-1), c",
    ),
    "stop: nothing upstream is reached, and the cut is handed on": (
        "a/1 b/1 c!",
        ["a -> b : kv(gradient = stop)", "b -> c : kv"],
        {"b": "sees [a stop] at end(a)", "c": "sees [a stop, b] at end(b)"},
        "b, c",
    ),
    "a lone agent": ("a!", ["a"], {"a": "sees [] at 0"}, "a"),
}


@pytest.mark.parametrize("name", CASES)
def test_sees_at_reaches(name: str) -> None:
    agents, edges, expected, reaches = CASES[name]
    plan = team(agents, *edges)
    rows = prefills(plan)
    assert {agent: rows[agent] for agent in expected} == expected
    assert reached(plan) == [reaches]


def test_an_answering_agent_that_is_seen_passes_its_tokens() -> None:
    plan = team("a/2! b/1 c!", "a -> b -> c : kv", "a -> x", "c -> y", outputs="x, y")
    assert prefills(plan)["b"] == "sees [a] at end(a)"
    assert reached(plan) == ["a", "a, b, c"]
    assert [(turn.think is not None, turn.answer is not None) for turn in plan.turns] == [
        (True, True),
        (True, False),
        (False, True),
    ]
    assert [loss.output for loss in plan.losses] == ["x", "y"]


def test_latents_of_an_answering_agent_end_before_its_tokens() -> None:
    plan = team("a/2! b!", "a -> b : kv(carry = latents)", "a -> x", "b -> y", outputs="x, y")
    assert prefills(plan)["b"] == "sees [a.latents] at end(a.latents)"
    plan = team("a/2! b!", "a -> b : kv(carry = latents, open = 5)", "a -> x", "b -> y", outputs="x, y")
    assert prefills(plan)["b"] == "sees [a.latents, a until=5] at end(a)"


CUTS = [
    ("a b c!", ["a -> b -> c : kv"], ("a", "b"), {"b": "sees [] at end(a)", "c": "sees [b] at end(b)"}),
    ("a b c!", ["a -> b -> c : kv"], ("b", "c"), {"b": "sees [a] at end(a)", "c": "sees [] at end(b)"}),
    (
        "a b d!",
        ["[a, b] -> d : kv(merge = stack)"],
        ("a", "d"),
        {"d": "sees [b shift=len(a)] at max(end(a), end(b)+len(a))"},
    ),
    ("a/2 b!", ["a -> b : kv(carry = latents, open = 40)"], ("a", "b"), {"b": "sees [] at end(a)"}),
    ("a b d!", ["a -> b : kv", "[a, b] -> d : kv"], ("a", "d"), {"d": "sees [a, b] at end(b)"}),
]


@pytest.mark.parametrize(("agents", "edges", "cut", "expected"), CUTS)
def test_cut_takes_away_views_and_leaves_positions(
    agents: str, edges: list[str], cut: tuple[str, str], expected: dict[str, str]
) -> None:
    rows = prefills(team(agents, *edges, cut=(cut,)))
    assert {agent: rows[agent] for agent in expected} == expected


def test_reach_is_exact_once_the_number_of_layers_is_known() -> None:
    plan = team("a b c d!", "a -> b -> c -> d : kv(carry = own)")
    assert reached(plan) == ["a.kv(-1), b.kv(-1), c.kv(-1), d"]
    known = with_reach(plan, {"m": 3})
    assert reached(known) == ["a.kv(0), b.kv(1), c.kv(2), d"]
    assert reached(with_reach(plan, {"m": 2})) == ["b.kv(0), c.kv(1), d"]
    assert fingerprint(known) == fingerprint(plan)


def test_frozen_agents_are_passed_through_and_not_listed() -> None:
    text = source("a b c!", "a -> b -> c : kv(carry = own)").text.replace("b on m {\n", "b on m {\n  adapt none\n")
    plan = compile_source(Source("x.mas", text)).require()
    assert reached(plan) == ["a.kv(-1), c"]


def test_order_is_topological_and_textual() -> None:
    plan = team("z y x w!", "y -> w : kv", "z -> x : kv", "x -> w : kv")
    assert list(prefills(plan)) == ["y", "z", "x", "w"]


def test_models_with_one_target_are_one_model() -> None:
    text = source("a b!", "a -> b : kv").text
    text = text.replace('model m = "no-one/not-on-disk"', 'model m = "no-one/x"\nmodel n = "no-one/x"')
    plan = compile_source(Source("x.mas", text.replace("b on m", "b on n"))).require()
    assert [m.name for m in plan.models] == ["m"]
    assert {a.model for a in plan.agents} == {"m"}


def test_weights_fit_however_answers_are_decoded() -> None:
    text = source("a b!", "a -> b : kv").text
    plan = compile_source(Source("x.mas", text)).require()
    for line in ("max_tokens = 5", "temperature = 0.5, top_p = 0.9, seed = 3", 'stop = "x"'):
        other = compile_source(Source("x.mas", text.replace("  answer", f"  answer ({line})"))).require()
        assert other != plan
        assert fingerprint(other) == fingerprint(plan)
        assert fingerprint(other, decoding=True) != fingerprint(plan, decoding=True)
    other = compile_source(Source("x.mas", text.replace("{question}", "{question}!"))).require()
    assert fingerprint(other) != fingerprint(plan)
