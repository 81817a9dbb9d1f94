"""Probes do to an edge what they say, and nothing else; an audit finds the edge that matters."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from graphs import GRAPHS
from masc.backends.torch.engine.measuring import batches
from masc.backends.torch.engine.probe import Probe
from masc.backends.torch.evaluation.evaluate import answer_losses
from masc.backends.torch.model.attention import Watch, watching
from masc.backends.torch.probing.audit import audit, thirds
from masc.backends.torch.training.train import train
from masc.compiler.ir.plan import Plan
from masc.dsl.diagnostics import MascError
from support import ROWS, compile_plan, make_program

SAY = "answer (max_tokens = 3)"
PAIR = """
mas 1
model m = MODEL
model n = OTHER
agent a on m {{ user "tell {{x}}" think {think} adapt lora(rank = 4) {say} }}
agent b on {on} {{ user "{prompt}" adapt lora(rank = 4) answer (max_tokens = 6) }}
graph g(x, q) -> answer {{ a -> b : {edge}  b -> answer }}
"""
TWO = [{"x": x, "q": "same", "answer": y} for x, y in (("one", "yes"), ("two", "no"), ("six", "ok!"))]
"""What the sender reads differs, in one and the same length."""

EDGES = {
    "trace": ("kv", "{q}", 2, "m"),
    "latents": ("kv(carry = latents)", "{q}", 2, "m"),
    "layers": ("kv(layers = 1..2)", "{q}", 1, "m"),
    "hidden": ("hidden(carry = own)", "{a} {q}", 1, "n"),
    "hidden of latents": ("hidden(link = mlp)", "{q}", 2, "n"),
    "text": ("text", "{a} {q}", 0, "m"),
}


def program_and_cut(name: str, tiny: Path) -> tuple[Any, Plan]:
    edge, prompt, think, on = EDGES[name]
    text = PAIR.format(edge=edge, prompt=prompt, think=think, on=on, say=SAY if edge == "text" else "")
    return make_program(text, tiny), compile_plan(text, tiny, cut=(("a", "b"),))


@pytest.mark.parametrize("name", EDGES)
def test_swapped_is_what_the_other_row_would_have_sent(name: str, tiny: Path) -> None:
    program, cut = program_and_cut(name, tiny)
    other = [{**row, "x": TWO[i - 1]["x"]} for i, row in enumerate(TWO)]
    with torch.no_grad():
        swapped = program(TWO, probe=Probe(cut, "swap")).logits
        torch.testing.assert_close(swapped, program(other).logits, atol=1e-4, rtol=0)
        assert (swapped - program(TWO).logits).abs().max() > 1e-3
    said = [one["answer"].ids for one in program.say(TWO, probe=Probe(cut, "swap"))]
    assert said == [one["answer"].ids for one in program.say(other)]


def test_a_swapped_fusion_takes_the_other_rows_cache(tiny: Path) -> None:
    """Of the same words said after other ones: what is aligned stays, what it means differs."""
    text = PAIR.format(edge="fuse(width = 8)", prompt="again {x} {q}", think=0, on="n", say="").replace(
        "{x}", "{q}: {x}", 1
    )
    program, cut = make_program(text, tiny), compile_plan(text, tiny, cut=(("a", "b"),))
    with torch.no_grad():
        whole = program(TWO).logits
        assert (program(TWO, probe=Probe(cut, "swap")).logits - whole).abs().max() > 1e-3
        alike = [{**TWO[0], "answer": row["answer"]} for row in TWO]
        same = program(alike, probe=Probe(cut, "swap")).logits
        torch.testing.assert_close(same, program(alike).logits, atol=1e-4, rtol=0)
        some = program(TWO, probe=Probe(cut, "layers", layers=(0, 1))).logits  # of 4, of which 1..3 are fused
        assert (some - whole).abs().max() > 1e-3


@pytest.mark.parametrize("name", [*EDGES])
def test_watching_changes_nothing(name: str, tiny: Path) -> None:
    program, cut = program_and_cut(name, tiny)
    probe = Probe(cut, "watch", receiver="b")
    out = program(TWO[:1], probe=probe)
    torch.testing.assert_close(out.logits, program(TWO[:1]).logits, atol=1e-5, rtol=0)
    out.loss.backward()
    assert bool(probe.squares) == (name != "text")
    assert any(square > 0 for square in probe.squares) == (name != "text")
    (watch,) = probe.watches
    assert bool(watch.columns.any()) == (name != "text")
    if name == "layers":
        assert not watch.columns[0].any()
        assert watch.mass[0] == 0
    for layer, mass in watch.mass.items():
        assert 0 <= mass <= watch.queries[layer]
        assert (mass > 0) == bool(watch.columns[layer if watch.columns.shape[0] > 1 else 0].any())


@pytest.mark.parametrize("name", ["rounds", "overlap", "stacked latents", "hidden between two models", "layers"])
def test_all_layers_are_all_there_is(name: str, tiny: Path) -> None:
    """In graphs with several paths too: what comes through another path is not touched."""
    program = make_program(GRAPHS[name], tiny, dtype="float64")
    pair = ("first", "last") if name in ("overlap", "stacked latents") else ("a", "b")
    cut = compile_plan(GRAPHS[name], tiny, cut=(pair,))
    with torch.no_grad():
        every = program(ROWS, probe=Probe(cut, "layers", layers=(0, 99))).logits
        torch.testing.assert_close(every, program(ROWS).logits, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["trace", "latents", "layers"])
def test_no_layer_at_all_is_the_cut(name: str, tiny: Path) -> None:
    program, cut = program_and_cut(name, tiny)
    with torch.no_grad():
        none = program(TWO, probe=Probe(cut, "layers", layers=(98, 99))).logits
        with program.running(cut):
            torch.testing.assert_close(none, program(TWO).logits, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("pair", "middle", "said"),
    [
        # Cutting a:b hides a from b and c, so swapping must reach both.
        (("a", "b"), "middle", ("one", "two", "six")),
        # c gets a's and b's segments of another row with the distances that they had there, though lengths differ.
        (("b", "c"), "{q}!", ("one", "seventeen", "a dozen or so")),
    ],
)
def test_a_chain_is_probed_in_every_path(pair: tuple[str, str], middle: str, said: tuple[str, ...], tiny: Path) -> None:
    """a -> b -> c, `carry = trace`: c sees a through b."""
    text = GRAPHS["trace"].replace('user "{q}!!"', 'user "end"').replace('user "{q}!"', f'user "{middle}"')
    program, cut = make_program(text, tiny), compile_plan(text, tiny, cut=(pair,))
    rows = [{"q": q, "answer": "yes"} for q in said]
    other = [{**row, "q": rows[i - 1]["q"]} for i, row in enumerate(rows)]
    with torch.no_grad():
        swapped = program(rows, probe=Probe(cut, "swap")).logits
        torch.testing.assert_close(swapped, program(other).logits, atol=1e-4, rtol=0)


def test_noise_has_the_norm_of_what_it_replaces(tiny: Path) -> None:
    probe = Probe(compile_plan(GRAPHS["trace"], tiny), "noise", seed=3)
    tensor = torch.randn(2, 3, 5, 8, generator=torch.Generator().manual_seed(0))
    drawn = probe.noise(tensor, "a", 1)
    torch.testing.assert_close(drawn.norm(dim=-1), tensor.norm(dim=-1))
    assert not torch.allclose(drawn, tensor)
    assert torch.equal(drawn, probe.noise(tensor, "a", 1))
    assert not torch.equal(drawn, probe.noise(tensor, "a", 2))


def test_attention_weights_are_those_of_the_model(tiny: Path) -> None:
    """All of the columns get all of the attention, and one what transformers' eager attention gives it."""
    program = make_program(GRAPHS["no latents"], tiny)
    base = program.base("a")
    ids = torch.randint(5, 90, (1, 7), generator=torch.Generator().manual_seed(0))
    every, third = Watch(torch.ones(1, 7, dtype=torch.bool)), Watch(torch.arange(7)[None] == 2)
    for watch in (every, third):
        with torch.no_grad(), watching(watch):
            base.run(ids, torch.arange(7)[None], None, base.cache(None))
    assert all(mass == pytest.approx(every.queries[layer], rel=1e-5) for layer, mass in every.mass.items())
    base.model.set_attn_implementation("eager")
    with torch.no_grad():
        weights = base.model(ids, output_attentions=True).attentions
    for layer, mass in third.mass.items():
        assert mass == pytest.approx(float(weights[layer][0, :, :, 2].mean(0).sum()), rel=1e-4)


@pytest.mark.parametrize("edge", ["kv", "hidden", "fuse(width = 8)"])
def test_a_gradient_is_told_behind_a_frozen_sender(edge: str, tiny: Path) -> None:
    """No adapter gets it, but it says how much the answer depends on what crosses."""
    prompt = "{a} {q}" if edge == "hidden" else "tell {x} {q}"
    text = PAIR.format(edge=edge, prompt=prompt, think=1, on="m", say="").replace(
        "adapt lora(rank = 4)", "adapt none", 1
    )
    program, cut = make_program(text, tiny), compile_plan(text, tiny, cut=(("a", "b"),))
    probe = Probe(cut, "watch", receiver="b")
    rows = [{**TWO[0], "x": TWO[0]["x"] * 3}]
    program(rows, probe=probe).loss.backward()
    assert sum(probe.squares) > 0


def test_no_gradient_crosses_a_stopped_edge(tiny: Path) -> None:
    text = PAIR.format(edge="kv(gradient = stop)", prompt="{q}", think=1, on="m", say="")
    program, cut = make_program(text, tiny), compile_plan(text, tiny, cut=(("a", "b"),))
    probe = Probe(cut, "watch", receiver="b")
    program(TWO[:1], probe=probe).loss.backward()
    assert not any(probe.squares)


PLANTED = """
mas 1
model m = MODEL
agent vital on m { user "{x}" adapt lora(rank = 8) }
agent useless on m { user "hello" adapt lora(rank = 8) }
agent last on m { user "which" adapt lora(rank = 8) answer (max_tokens = 1) }
graph g(x) -> answer { [vital, useless] -> last : kv(carry = own) }
"""


def test_an_audit_finds_the_vital_and_the_useless_edge(tiny: Path) -> None:
    """Trained to say a letter for another one that only `vital` reads."""
    program = make_program(PLANTED, tiny, awake=False)
    rows = [{"x": x * 3, "answer": y} for x, y in zip("abcdefgh", "stuvwxyz", strict=True)]
    train(program, rows, batch=8, steps=80, rate=1e-2, warmup=0.1)
    cuts = {name: compile_plan(PLANTED, tiny, cut=((name, "last"),)) for name in ("vital", "useless")}
    edges = [(name, "last", ("kv",), cut) for name, cut in cuts.items()]
    found = audit(program, edges, rows, batch=4, watched=2)
    vital, useless = found.edges
    assert found.accuracy >= 0.5
    assert found.items == len(rows)
    assert vital.carries > 0.1
    assert useless.carries == 0
    assert set(vital.conditions) == {"cut", "swap", "noise", "layers 0..0", "layers 1..1", "layers 2..2"}
    for name in ("cut", "swap"):
        assert vital.conditions[name].accuracy <= 0.25
    assert useless.conditions["swap"].accuracy == found.accuracy
    assert useless.conditions["swap"].log_likelihood_change[0] == pytest.approx(0, abs=1e-4)
    assert vital.gradient > 0
    assert vital.attention is not None
    assert 0 < vital.attention < 1
    assert len(vital.attention_by_layer) == 3
    assert program.plan.train == compile_plan(PLANTED, tiny).train  # the program is as it was


TWO_OUTPUTS = """
mas 1
model m = MODEL
agent alone on m { user "{q}" adapt lora(rank = 4) answer (max_tokens = 2) }
agent a on m { user "tell {x}" adapt lora(rank = 4) }
agent b on m { user "say" adapt lora(rank = 4) answer (max_tokens = 2) }
graph g(q, x) -> first, answer { alone -> first  a -> b : kv  b -> answer }
train { first <- answer }
"""


def test_an_edge_into_the_second_output_counts(tiny: Path) -> None:
    program, cut = make_program(TWO_OUTPUTS, tiny), compile_plan(TWO_OUTPUTS, tiny, cut=(("a", "b"),))
    changes = {}
    for output in (None, "first", "answer"):
        (edge,) = audit(program, [("a", "b", ("kv",), cut)], TWO, output=output, watched=1).edges
        changes[output] = edge.conditions["cut"].log_likelihood_change[0], edge.gradient
        assert math.isnan(edge.conditions["cut"].log_likelihood_change[1])  # of three rows
        assert edge.carries == 0
    assert changes["first"] == (0, 0)
    assert changes[None][0] == pytest.approx(changes["answer"][0], abs=1e-6)
    assert abs(changes["answer"][0]) > 1e-3
    assert changes["answer"][1] > 0
    with pytest.raises(MascError, match="no output `anser`"):
        audit(program, [], TWO, output="anser")


def test_losses_by_row_are_those_of_the_batch(tiny: Path) -> None:
    program = make_program(GRAPHS["own"], tiny)
    losses = answer_losses(program, ROWS, 3, ["answer"])
    with torch.no_grad():
        for row, (loss, count) in zip(ROWS, losses, strict=True):
            out = program([row])
            assert count == out.tokens
            assert loss == pytest.approx(float(out.loss) * out.tokens, abs=1e-3)


def test_no_row_is_alone_in_a_batch(tiny: Path) -> None:
    """It would exchange what it sends with itself."""
    program = make_program(GRAPHS["own"], tiny)
    for count in range(2, 10):
        rows = [{"q": "x" * (i + 1), "answer": "y"} for i in range(count)]
        for size in (2, 3, 4):
            found = batches(program, rows, range(count), size)
            assert sorted(i for batch in found for i in batch) == list(range(count))
            assert all(2 <= len(batch) <= max(3, size) for batch in found)
    with pytest.raises(ValueError, match="two rows"):
        audit(program, [], rows, batch=1)


def test_thirds_cover_all_layers_once() -> None:
    for count in range(1, 40):
        layers = [layer for first, last in thirds(count) for layer in range(first, last + 1)]
        assert layers == list(range(count))
        assert len(thirds(count)) == min(3, count)
    assert thirds(30) == [(0, 9), (10, 19), (20, 29)]
