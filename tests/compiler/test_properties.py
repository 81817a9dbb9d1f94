"""Whatever the graph, compiling it gives a plan or errors, and optimising changes no position."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from masc.compiler.forms.plan_parse import parse_plan
from masc.compiler.forms.plan_text import print_plan
from masc.compiler.ir.plan import End, Plan
from masc.compiler.passes.optimise import optimise
from masc.compiler.passes.place import place
from masc.compiler.passes.schedule import schedule
from masc.compiler.pipeline import compile_source
from masc.dsl.diagnostics import errors
from masc.dsl.source import Source
from teams import source

OPTIONS = ["", "carry = own", "carry = latents", "carry = latents, open = 5 as trace", "carry = own, open = 3 as trace"]
EXTRA = ["", "layers = 0..1", "layers = 1..3", "gradient = stop"]
AGENTS = "abcdef"


@st.composite
def graphs(draw: st.DrawFn, cycles: bool = False) -> Source:
    """Random graphs on up to six agents; the last one answers, edges run forwards unless cycles are wanted."""
    count = draw(st.integers(2, 6))
    words = [f"{name}/{draw(st.integers(0, 2))}" for name in AGENTS[:count]]
    words = [word.replace("/0", "") for word in words]
    merges = {name: draw(st.sampled_from(["overlap", "stack"])) for name in AGENTS[:count]}
    edges = []
    pairs = [(a, b) for a in AGENTS[:count] for b in AGENTS[:count] if a != b and (cycles or a < b)]
    for a, b in draw(st.permutations(pairs)):
        if draw(st.booleans()):
            options = [draw(st.sampled_from(OPTIONS)), draw(st.sampled_from(EXTRA)), f"merge = {merges[b]}"]
            edges.append(f"{a} -> {b} : kv({', '.join(o for o in options if o)})")
    return source(" ".join(words) + "!", *edges, words[-1][0])


@settings(max_examples=150, deadline=None)
@given(graphs(), st.data())
def test_optimising_changes_no_position(text: Source, data: Any) -> None:
    compilation = compile_source(text)
    if compilation.graph is None or errors(compilation.diagnostics):
        assert {d.code for d in errors(compilation.diagnostics)} <= {"E0306", "E0316"}
        return
    placed, _ = place(compilation.graph, schedule(compilation.graph))
    lengths = {a.id: data.draw(st.integers(1, 9)) for a in compilation.graph.activations}
    assert starts(placed, lengths) == starts(optimise(placed), lengths)
    assert parse_plan(print_plan(compilation.require())) == compilation.plan
    edges = [(e.sender[0], e.receiver[0]) for e in compilation.graph.edges]
    if edges:
        cut = compile_source(text, cut=(data.draw(st.sampled_from(edges)),)).require()
        assert starts(cut, lengths) == starts(placed, lengths)


@settings(max_examples=60, deadline=None)
@given(graphs(cycles=True))
def test_every_graph_gives_a_plan_or_errors(text: Source) -> None:
    compilation = compile_source(text)
    assert (compilation.plan is None) == bool(errors(compilation.diagnostics))


def starts(plan: Plan, lengths: dict[str, int]) -> dict[str, int]:
    """Where each segment starts if the segments have these lengths (three of which are latents and tokens)."""
    found: dict[str, int] = {}

    def end(e: End) -> int:
        return found[e.segment] + lengths[e.segment] - (e.part == "latents") + sum(lengths[s] for s in e.shift)

    for turn in plan.turns:
        found[turn.activation] = max((end(e) for e in turn.at), default=0)
    return found
