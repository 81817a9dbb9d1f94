"""The printed plan and `plan.json` give back an equal plan, and say where they are not one."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from masc.compiler.channels.fuse import Fuse
from masc.compiler.channels.hidden import Splice
from masc.compiler.channels.text import Read
from masc.compiler.forms.graph_text import print_graph
from masc.compiler.forms.plan_json import decode_plan, dump_plan, load_plan
from masc.compiler.forms.plan_parse import parse, parse_plan
from masc.compiler.forms.plan_text import print_plan
from masc.compiler.ir.adapter import Lora
from masc.compiler.ir.arrival import Kept
from masc.compiler.ir.plan import (
    Across,
    Answer,
    BaseModel,
    End,
    Keep,
    LatentMap,
    Loss,
    Plan,
    PlanAgent,
    Reach,
    Sampling,
    Slot,
    Think,
    TraceOf,
    TrainSettings,
    Turn,
    View,
)
from masc.compiler.ir.ranges import intersection, union, within
from masc.compiler.language.alignments import ALIGNMENTS
from masc.compiler.pipeline import compile_source
from masc.dsl.diagnostics import MascError
from masc.dsl.source import Source
from teams import source, team

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
segments = st.builds("{}#{}".format, names, st.integers(1, 9))
counts = st.integers(0, 2**40)
numbers = st.floats(allow_nan=False, allow_infinity=False)
parts = st.sampled_from(["all", "latents"])
layers = st.lists(st.tuples(counts, counts), min_size=1, max_size=3).map(tuple)


def some(items: st.SearchStrategy[Any], most: int = 3) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(items, max_size=most).map(tuple)


def joined(pieces: list[str | Slot]) -> tuple[str | Slot, ...]:
    """Adjacent texts joined and empty ones left out, as the language has it."""
    found: list[str | Slot] = []
    for piece in pieces:
        if isinstance(piece, str) and found and isinstance(found[-1], str):
            found[-1] += piece
        elif piece != "":
            found.append(piece)
    return tuple(found)


templates = st.lists(st.text() | st.builds(Slot, names), max_size=5).map(joined)
seen = st.builds(
    View, segments, parts, st.none() | layers, st.booleans(), some(segments), st.none() | counts, st.booleans()
) | st.builds(TraceOf, segments, st.none() | layers, st.booleans(), some(segments), st.none() | counts, st.booleans())
shapes = st.sampled_from(["linear", "mlp"])
arrivals = st.tuples(
    some(st.builds(Read, segments, st.booleans())),
    some(st.builds(Splice, segments, parts, shapes, st.booleans(), st.booleans())),
    some(st.builds(Fuse, segments, st.none() | layers, counts, st.booleans())),
).map(lambda kinds: tuple(arrival for kind in kinds for arrival in kind))
turns = st.builds(
    Turn,
    segments,
    some(seen),
    some(st.builds(End, segments, parts, some(segments))),
    arrivals,
    st.none() | st.builds(Think, counts, st.sampled_from(list(ALIGNMENTS)), st.booleans()),
    st.none()
    | st.builds(Answer, st.none() | names, st.builds(Sampling, counts, numbers, numbers, counts, some(st.text()))),
    some(st.builds(Keep, st.sampled_from(get_args(Kept)), some(segments))),
    st.booleans(),
)
losses = st.builds(
    Loss,
    names,
    names,
    some(
        st.builds(Reach, names, st.none() | st.integers(-1, 99))
        | st.builds(LatentMap, names)
        | st.builds(Across, st.sampled_from(["hidden", "fuse"]), names, names, st.none() | layers)
    ),
)
targets = st.lists(names, min_size=1, max_size=3).map(tuple)
agents = st.builds(
    PlanAgent,
    names,
    names,
    st.none() | st.builds(Lora, counts, numbers, targets, numbers),
    st.none() | templates,
    templates,
)
trains = st.builds(
    TrainSettings,
    data=st.none() | st.text(),
    batch=counts,
    rate=numbers,
    clip=numbers,
    dtype=st.sampled_from([None, "float32", "bfloat16"]),
    checkpoint=st.sampled_from(["none", "agent"]),
)
plans = st.builds(
    Plan,
    names,
    some(names),
    some(names),
    some(st.builds(BaseModel, names, st.text())),
    some(agents),
    some(turns),
    some(losses),
    trains,
)


@settings(max_examples=60, deadline=None)
@given(plans)
def test_every_plan_can_be_read_back(plan: Plan) -> None:
    assert parse(print_plan(plan)) == plan
    assert decode_plan(dump_plan(plan)) == plan


GOLDEN = """\
plan g(question) -> answer
  model m = "no-one/not-on-disk"
  agent a on m
    adapter lora(rank=16, alpha=32, targets=all, dropout=0)
    user "{question}"
  agent b on m
    adapter lora(rank=16, alpha=32, targets=all, dropout=0)
    user "{question}"
  turn a#1 at 0
    think 2 align=norm
    keeps cache for b#1
  turn b#1 at end(a#1)
    sees [a#1.latents, a#1 until=40]
    answer max_tokens=128 temperature=0 top_p=1 seed=0 stop=[] -> answer
  loss answer column=gold reaches a, b
  train
    batch 8
    accumulate 1
    steps 500
    rate 0.0002
    warmup 0.05
    clip 1
    weight_decay 0
    seed 0
    save_every 50
    keep 2
    eval_every 0
    max_length 0
    checkpoint none
    sparsity 0
    gate_rate 0.2
    objective supervised
"""

GOLDEN_GRAPH = """\
graph g(question) -> answer
  model m = "no-one/not-on-disk"
  agent a on m think 2 align=norm lora 16/32 all
  agent b on m lora 16/32 all answer 128
  node a#1
  node b#1
  edge a#1 -> b#1 : kv carry=latents merge=overlap gradient=full open=40 as own
  give b#1 -> answer
  label answer <- gold
"""


def test_golden_text() -> None:
    train = "train {\n  answer <- gold\n  steps 500\n}"
    compilation = compile_source(source("a/2 b!", "a -> b : kv(carry = latents, open = 40)", train=train))
    assert print_plan(compilation.require()) == GOLDEN
    assert compilation.graph is not None
    assert print_graph(compilation.graph) == GOLDEN_GRAPH
    assert list(compilation.graph.network.edges) == [("a#1", "b#1", 0)]


BROKEN = [
    ("", 1, 1, "empty"),
    ("plan g(", 1, 8, "end of the line"),
    (GOLDEN.replace("until=40]", "until=40"), 13, 36, "`,`"),
    (GOLDEN.replace(" at 0", ""), 9, 11, "`at`"),
    (GOLDEN.replace("    think", "    thnk"), 10, 5, "a line of a plan"),
    (GOLDEN.replace("align=norm", "align=nrm"), 10, 19, "`norm` or `ridge` or `linear`"),
    (GOLDEN.replace("cache for", "cash for"), 11, 11, "`cache` or `prompt`"),
    (GOLDEN.replace("loss ", "lose "), 15, 3, "a line of a plan"),
    (GOLDEN.replace('user "{question}"', 'user "\\q"', 1), 5, 10, "JSON"),
    (GOLDEN.replace("steps 500", "steps 5.5"), 19, 11, "whole number"),
    (GOLDEN.replace("batch 8", "batch ; 8"), 17, 10, "not part of a plan"),
    (GOLDEN.replace("    user", "    usr", 1), 5, 5, "one `adapter`"),
]


@pytest.mark.parametrize(("text", "line", "column", "message"), BROKEN)
def test_broken_text_says_where(text: str, line: int, column: int, message: str) -> None:
    with pytest.raises(MascError) as caught:
        parse_plan(text)
    (found,) = caught.value.diagnostics
    assert found.code == "E0520"
    assert found.span is not None
    assert (found.span.line, found.span.column) == (line, column)
    assert message in found.message


@settings(max_examples=100, deadline=None)
@given(st.text() | st.text(alphabet='plan (){}[]#.=+->0"\nmodelsees', max_size=60))
def test_any_text_is_a_plan_or_an_error(text: str) -> None:
    try:
        parse_plan(text)
    except MascError as error:
        codes = [d.code for d in error.diagnostics]
    else:
        codes = ["E0520"]
    assert codes == ["E0520"]


def test_broken_json_says_what() -> None:
    good = json.loads(dump_plan(team("a/2 b!", "a -> b : kv")))

    def code(change: Any) -> str:
        data = json.loads(json.dumps(good))
        change(data)
        with pytest.raises(MascError) as caught:
            load_plan(json.dumps(data))
        return caught.value.diagnostics[0].code

    assert code(lambda d: d.update(format=99)) == "E0512"
    assert code(lambda d: d.pop("format")) == "E0511"
    assert code(lambda d: d.pop("plan")) == "E0511"
    assert code(lambda d: d["plan"].update(extra=1)) == "E0511"
    assert code(lambda d: d["plan"].update(name=1)) == "E0511"
    assert code(lambda d: d["plan"]["turns"][0].update(kind="plan")) == "E0511"
    assert code(lambda d: d["plan"]["turns"][0]["think"].update(align="no")) == "E0521"
    assert code(lambda d: d["plan"]["turns"][0]["think"].update(steps=True)) == "E0511"
    with pytest.raises(MascError):
        load_plan("{")


ranges = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 3)), max_size=3).map(
    lambda pairs: union((), tuple((first, first + more) for first, more in pairs))
)


@given(st.none() | ranges, st.none() | ranges)
def test_ranges_are_sets(a: Any, b: Any) -> None:
    def members(x: Any) -> set[int]:
        return set(range(99)) if x is None else {i for first, last in x for i in range(first, last + 1)}

    assert members(union(a, b)) == members(a) | members(b)
    assert members(intersection(a, b)) == members(a) & members(b)
    assert within(a, b) == (members(a) <= members(b))


def test_a_plan_of_the_format_before_is_read() -> None:
    """It does not say how models are loaded, nor what chat templates are told: the defaults."""
    known = 'mas 1 model m = "org/name" agent a on m { user "{q}" answer } graph g(q) -> answer { a }'
    plan = compile_source(Source("x.mas", known)).require()
    body = json.loads(dump_plan(plan))
    body["format"] = 3
    for model in body["plan"]["models"]:
        del model["loading"]
    for agent in body["plan"]["agents"]:
        del agent["variables"]
    assert load_plan(json.dumps(body)) == plan
    body["plan"]["models"] = None
    with pytest.raises(MascError) as caught:
        load_plan(json.dumps(body))
    assert [d.code for d in caught.value.diagnostics] == ["E0511"]
