"""A changed `plan.json` is an error or means the same: never something else without a word, never an exception."""

from __future__ import annotations

import json
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from masc.compiler.forms.plan_json import dump_plan, load_plan
from masc.compiler.forms.plan_parse import parse_plan
from masc.compiler.forms.plan_text import print_plan
from masc.compiler.ir.plan import Plan
from masc.compiler.pipeline import compile_source
from masc.dsl.diagnostics import MascError
from masc.dsl.source import Source

TEXT = """mas 1
model m = "no-one/m"
model n = "no-one/n"
agent a on m { system "You {q}" user "{q}" think 2 (align = linear) adapt lora(rank = 4, targets = [q_proj, v_proj]) }
agent b on m { user "{q} b" think 1 answer (temperature = 0.5, stop = ["x"]) }
agent c on n { user "{b} {q}" adapt none }
agent d on m { user "{c} {q}" answer }
graph g(q) -> answer {
  a -> b : kv(carry = latents, open = 10, layers = 0..1)
  b -> c : text
  a -> c : fuse(width = 4, layers = 1..2)
  c -> d : hidden(carry = own, link = mlp)
  [a, b] -> d : kv(merge = stack, gradient = stop)
  d -> answer
}
train { answer <- gold  b <- hint  dtype bfloat16 }
"""
CODES = {"E0511", "E0512", "E0521"}


@pytest.fixture(scope="module")
def plan() -> Plan:
    return compile_source(Source("team.mas", TEXT)).require()


def leaves(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value, inner ones too."""
    yield way
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(inner, (*way, key))


NEW: list[Any] = [
    *(None, True, False, 0, 1, -1, 7, 0.5, -0.5, 1e400, float("nan"), 2**70),
    *("", "a", "a#1", "a#9", "all", "latents", "q", "\ue000", "x y", "\ud800"),
    *([], {}, [[2, 1]], [[0, 0], [1, 1]], [[0, 0], [2, 2]], [[-1, 0]], ["a#1"], ["a#1", "a#1"]),
]


def mutated(data: Any, random: Random) -> Any:
    data = json.loads(json.dumps(data))
    way = random.choice([way for way in leaves(data) if way])
    place = data
    for key in way[:-1]:
        place = place[key]
    key = way[-1]
    kind = random.randrange(5)
    if kind == 0 and isinstance(place, list):
        place.insert(key, place[random.randrange(len(place))])
    elif kind == 1:
        del place[key]
    elif kind == 2 and isinstance(place, list) and len(place) > 1:
        random.shuffle(place)
    else:
        place[key] = random.choice(NEW)
    return data


@pytest.mark.parametrize("seed", range(4))
def test_a_changed_plan_is_an_error_or_what_it_says(seed: int, plan: Plan) -> None:
    """What is read can be printed and read again, and says what the file says."""
    good = json.loads(dump_plan(plan))
    random = Random(seed)
    read, refused = 0, []
    for _ in range(300):
        bad = mutated(good, random)
        try:
            found = load_plan(json.dumps(bad))
        except MascError as error:
            refused += error.diagnostics
            continue
        read += 1
        assert json.loads(dump_plan(found)) == json.loads(json.dumps(bad))
        assert parse_plan(print_plan(found)) == found
    assert read < 150
    assert {d.code for d in refused} <= CODES
    assert all(len(d.message) < 400 for d in refused)


def turn(data: Any, name: str) -> Any:
    return next(one for one in data["plan"]["turns"] if one["activation"] == name)


def arrival(data: Any, name: str, kind: str) -> Any:
    return next(one for one in turn(data, name)["arrives"] if one["kind"] == kind)


def loss(data: Any) -> Any:
    return data["plan"]["losses"][0]


READ = {"kind": "read", "segment": "a#1", "cut": False}
CONTRADICTIONS: dict[str, Any] = {
    "seen before it is written": lambda d: turn(d, "b#1")["sees"][0].update(segment="d#1"),
    "a layer range upside down": lambda d: turn(d, "b#1")["sees"][0].update(layers=[[2, 0]]),
    "layers that overlap": lambda d: turn(d, "b#1")["sees"][0].update(layers=[[0, 2], [1, 3]]),
    "a negative layer": lambda d: arrival(d, "c#1", "fuse").update(layers=[[-1, 2]]),
    "the same view twice": lambda d: turn(d, "d#1")["sees"].append(turn(d, "d#1")["sees"][0]),
    "a view that a trace shows": lambda d: turn(d, "d#1")["sees"].append(
        turn(d, "d#1")["sees"][1] | {"kind": "view", "part": "all"}
    ),
    "a trace of what is not there yet": lambda d: turn(d, "d#1")["sees"][1].update(segment="e#1"),
    "a view of another model": lambda d: turn(d, "d#1")["sees"][0].update(segment="c#1"),
    "read before it is said": lambda d: turn(d, "d#1")["arrives"].insert(0, READ),
    "hidden states before words": lambda d: turn(d, "d#1")["arrives"].append(READ | {"segment": "b#1"}),
    "latents of nobody's thoughts": lambda d: arrival(d, "d#1", "splice").update(part="latents"),
    "no steps": lambda d: turn(d, "a#1")["think"].update(steps=0),
    "a loss without an answer": lambda d: loss(d).update(output="q"),
    "no loss": lambda d: d["plan"]["losses"].remove(loss(d)),
    "reaches what is out of reach": lambda d: loss(d)["reaches"].append(
        {"kind": "across", "edge": "fuse", "sender": "b", "receiver": "d", "layers": None}
    ),
    "reaches a frozen agent": lambda d: loss(d)["reaches"].append({"kind": "reach", "agent": "c", "layer": None}),
    "keeps nothing of what is seen": lambda d: turn(d, "a#1")["keeps"].pop(0),
    "keeps what nobody needs": lambda d: turn(d, "d#1")["keeps"].append({"kind": "keep", "what": "text", "to": []}),
    "no gradient where a loss is behind": lambda d: turn(d, "d#1").update(gradient=False),
    "a temperature below zero": lambda d: turn(d, "d#1")["answer"]["sampling"].update(temperature=-1.0),
    "no tokens": lambda d: turn(d, "d#1")["answer"]["sampling"].update(max_tokens=0),
    "two agents of a name": lambda d: d["plan"]["agents"].append(d["plan"]["agents"][0]),
    "a name that is none": lambda d: d["plan"].update(name="x y"),
    "an adapter of rank 0": lambda d: d["plan"]["agents"][0]["lora"].update(rank=0),
    "a batch of none": lambda d: d["plan"]["train"].update(batch=0),
}


@pytest.mark.parametrize("name", CONTRADICTIONS)
def test_a_plan_that_contradicts_itself_is_refused(name: str, plan: Plan) -> None:
    data = json.loads(dump_plan(plan))
    CONTRADICTIONS[name](data)
    with pytest.raises(MascError) as caught:
        load_plan(json.dumps(data))
    assert [d.code for d in caught.value.diagnostics] == ["E0521"]


def test_what_is_printed_is_held_too(plan: Plan) -> None:
    with pytest.raises(MascError) as caught:
        parse_plan(print_plan(plan).replace("sees [a#1", "sees [d#1", 1))
    assert [d.code for d in caught.value.diagnostics] == ["E0521"]


@pytest.mark.parametrize(
    "text",
    [
        '{"format": 3, "plan": ' + "[" * 200_000 + "]" * 200_000 + "}",
        '{"format": ' + '{"a":' * 200_000 + "1" + "}" * 200_000 + "}",
        '{"format": 3, "format": 3, "plan": {}}',
        '{"format": 3, "plan": NaN}',
        "[]",
        "2",
    ],
)
def test_no_text_is_an_exception(text: str) -> None:
    with pytest.raises(MascError) as caught:
        load_plan(text)
    assert [d.code for d in caught.value.diagnostics] == ["E0511"]


def test_an_older_format_is_told_as_one(plan: Plan) -> None:
    """Also where its fields are others."""
    data = json.loads(dump_plan(plan)) | {"format": 1}
    data["plan"]["operations"] = data["plan"].pop("turns")
    with pytest.raises(MascError) as caught:
        load_plan(json.dumps(data))
    assert [d.code for d in caught.value.diagnostics] == ["E0512"]
