"""Activations of one wave are computed in one batch in training: the same losses and gradients as one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from graphs import GRAPHS, alike
from masc.backends.torch.engine import joining, walk
from masc.backends.torch.training.train import train
from masc.compiler.analysis.waves import siblings
from support import ROWS, compile_plan, make_program

FAN = "[first, second, third] -> last : kv({})"
CHAIN = "source -> [first, second, third] : kv({}) [first, second, third] -> last : kv"


def wide(text: str, tiny: Path) -> Any:
    """A program in float64: what is left of a difference is no rounding."""
    return make_program(text, tiny, dtype="float64")


def found(
    program: Any, apart: bool, monkeypatch: pytest.MonkeyPatch, **options: Any
) -> tuple[Any, dict[str, Any], int]:
    """The loss, every gradient (None: there is none), and how many activations were computed."""
    count = 0
    own = joining.activate

    def counted(*args: Any, **named: Any) -> Any:
        nonlocal count
        count += 1
        return own(*args, **named)

    with monkeypatch.context() as patched:
        patched.setattr(joining, "activate", counted)
        patched.setattr(walk, "activate", counted)
        if apart:
            patched.setattr(walk, "joinable", lambda several: False)
        program.zero_grad(set_to_none=True)
        loss = program(ROWS, **options).loss
        loss.backward()
    gradients = {name: None if p.grad is None else p.grad.clone() for name, p in program.trainable().items()}
    return loss.detach(), gradients, count


def same(program: Any, monkeypatch: pytest.MonkeyPatch, **options: Any) -> tuple[int, int]:
    """How many activations were computed, in batches and one by one: with the same losses and gradients."""
    loss, ours, together = found(program, False, monkeypatch, **options)
    wanted, theirs, apart = found(program, True, monkeypatch, **options)
    assert torch.allclose(loss, wanted, rtol=1e-9)
    assert ours.keys() == theirs.keys()
    for name, gradient in ours.items():
        other = theirs[name]
        assert (gradient is None) == (other is None), name
        assert gradient is None or (gradient - other).norm() <= 1e-8 * max(other.norm(), 1e-6), name
    return together, apart


@pytest.mark.parametrize("options", ["", "carry = latents", "merge = stack", "carry = own", "layers = 0..0"])
def test_siblings_are_one_batch(options: str, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert same(wide(alike(FAN.format(options)), tiny), monkeypatch) == (2, 4)


@pytest.mark.parametrize("options", ["", "carry = latents", "layers = 1..1", "open = 3"])
def test_they_may_see_others(options: str, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert same(wide(alike(CHAIN.format(options)), tiny), monkeypatch) == (3, 5)


def test_what_they_see_may_be_of_any_width(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Columns that one has and another has not are seen by nobody."""
    edges = "source -> second : kv source -> third : kv(carry = latents) [first, second, third] -> last : kv"
    assert same(wide(alike(edges), tiny), monkeypatch) == (4, 5), "first sees nothing, and is alone"


def test_they_may_be_frozen(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        alike(CHAIN.format(""))
        .replace("adapt lora(rank = 4) }", "adapt none }")
        .replace("lora(rank = 4, alpha = 2)", "none")
    )
    program = wide(text, tiny)
    assert {program.owner(name) for name in program.trainable()} == {"last"}
    assert same(program, monkeypatch) == (3, 5)


PAIRS = """
mas 1
model m = MODEL
agent a on m {{ user "{{q}} a" think 2 adapt lora(rank = 4) }}
agent b on m {{ user "then {{q}}" think 2 adapt lora(rank = 4) }}
agent x on m {{ user "x {{q}}" think 1 adapt lora(rank = 4) answer (max_tokens = 3) }}
agent y on m {{ user "{{q}} y" {thinks} adapt lora(rank = 4) answer (max_tokens = 3) }}
agent last on m {{ user "{{q}} now" adapt lora(rank = 4) answer (max_tokens = 6) }}
graph g(q) -> {outputs}answer {{ a -> x : kv  b -> y : kv  {edges}  last -> answer }}
{train}
"""
THEIRS = {
    "alike": ("think 1", "[x, y] -> last : kv", "", "", {("a#1", "b#1"), ("x#1", "y#1")}, (3, 5)),
    "of which one thinks longer": ("think 2", "[x, y] -> last : kv", "", "", set(), (5, 5)),
    "of which one is seen in other layers": (
        "think 1",
        "x -> last : kv(carry = own)  y -> last : kv(carry = own, layers = 0..0)",
        "",
        "",
        set(),
        (5, 5),
    ),
    "that are told what to say": (
        "think 1",
        "[x, y] -> last : text  x -> first  y -> second",
        "first, second, ",
        "train { first <- q  second <- q }",
        {("a#1", "b#1")},
        (4, 5),
    ),
    "of which one is told what to say": (
        "think 1",
        "[x, y] -> last : text  x -> first",
        "first, ",
        "train { first <- q }",
        set(),
        (6, 6),
    ),
}


@pytest.mark.parametrize("readers", THEIRS)
def test_siblings_that_others_read(readers: str, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has a reader of its own: one batch if a gradient comes through both or through none, and alike."""
    thinks, edges, outputs, train, groups, batches = THEIRS[readers]
    program = wide(PAIRS.format(thinks=thinks, edges=edges, outputs=outputs, train=train), tiny)
    assert set(siblings(program.plan).values()) == groups
    assert same(program, monkeypatch) == batches


OTHERS = {
    "thinks longer": {"second": "think 3 (align = ridge)"},
    "thinks otherwise": {"second": "think 2 (align = norm)"},
    "stops gradients": {"second": "think 2 (align = ridge, gradient = stop)"},
    "has a smaller adapter": {"adapter": "lora(rank = 2)"},
    "has adapters elsewhere": {"adapter": "lora(rank = 4, targets = [q_proj, v_proj])"},
    "drops": {"adapter": "lora(rank = 4, dropout = 0.5)"},
    "has DoRA": {"adapter": "lora(rank = 4, dora = true)"},
    "has the first one's adapter": {"adapter": "as first"},
    "has none": {"adapter": "none"},
}


@pytest.mark.parametrize("what", OTHERS)
def test_one_that_is_otherwise_is_alone(what: str, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = wide(alike(FAN.format(""), **OTHERS[what]), tiny)
    groups = set(siblings(program.plan).values())
    if what == "has the first one's adapter":
        assert groups == set()
        return
    assert groups == {("first#1", "third#1")}
    program.eval()  # nothing is dropped: it can be compared
    assert same(program, monkeypatch) == (3, 4)


READERS = {
    "seen in other layers": "first -> last : kv(layers = 0..1) [second, third] -> last : kv",
    "seen for a while": "first -> last : kv(carry = latents, open = 5) [second, third] -> last : kv(carry = latents)",
    "seen without a gradient": "first -> last : kv(gradient = stop) [second, third] -> last : kv",
    "behind a gate": "first -> last : kv(gate = learned) [second, third] -> last : kv",
}


@pytest.mark.parametrize("what", READERS)
def test_one_that_is_read_otherwise_is_alone(what: str, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gradient might reach it where it does not reach the others."""
    program = wide(alike(READERS[what]), tiny)
    assert set(siblings(program.plan).values()) == {("second#1", "third#1")}
    if "gate" not in READERS[what]:
        assert same(program, monkeypatch) == (3, 4)


def test_vectors_that_come_through_gates_are_of_one_each(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each edge has a gate of its own, and one may be closed; without gates they are one batch."""
    edges = "[first, second, third] -> last : hidden"
    assert set(siblings(compile_plan(alike(edges), tiny)).values()) == {("first#1", "second#1", "third#1")}
    assert same(wide(alike(edges), tiny), monkeypatch) == (2, 4)
    assert siblings(compile_plan(alike(f"{edges}(gate = learned)"), tiny)) == {}


def test_they_are_one_by_one_where_somebody_looks_or_memory_is_dear(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = wide(alike(FAN.format("")), tiny)
    assert same(program, monkeypatch, recompute=True) == (4, 4)
    long = alike(FAN.format("")).replace("}, third", "}" + ", third" * 60)
    assert same(wide(long, tiny), monkeypatch) == (4, 4), "others would be padded to its width"


def test_training_goes_where_it_went(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = []
    for apart in (False, True):
        program = wide(alike(CHAIN.format("")), tiny)
        with monkeypatch.context() as patched:
            if apart:
                patched.setattr(walk, "joinable", lambda several: False)
            train(program, ROWS, steps=4, batch=2, rate=1e-2)
        weights.append({name: p.detach().clone() for name, p in program.trainable().items()})
    one, other = weights
    assert all((one[name] - other[name]).norm() <= 1e-6 * other[name].norm() for name in one)


def test_no_graph_trains_otherwise(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all that tests run: in particular no gradient of zeros stands where there was none."""
    checked = [name for name, text in GRAPHS.items() if siblings(compile_plan(text, tiny))]
    for name in checked:
        together, apart = same(wide(GRAPHS[name], tiny), monkeypatch)
        assert together < apart, name
    assert checked
