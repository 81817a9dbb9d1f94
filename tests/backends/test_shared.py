"""One adapter of several agents (`adapt as`): one set of parameters, whose gradient is the sum over who uses it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from masc.backends.torch.build import build
from masc.backends.torch.engine.history import History
from masc.backends.torch.training.train import train
from masc.compiler.analysis.fits import misfits
from masc.compiler.ir.graph import Graph
from masc.compiler.passes.controls import alone, pooled
from masc.compiler.pipeline import compile_file, lower
from support import ROWS, compile_plan, make_program

APART = """
mas 1
model m = MODEL
agent a on m { user "{q} a" think 1 (align = linear) adapt lora(rank = 4, dropout = 0.1) }
agent b on m { user "{q} b" think 1 (align = linear) adapt lora(rank = 4, dropout = 0.1) }
agent c on m { user "{q} c" adapt none answer (max_tokens = 4) }
graph g(q) -> answer {
  repeat 2 { a -> b : kv  b -> a : kv(carry = latents) }
  a -> c : kv
  b -> c : kv(carry = latents)
}
"""
SHARED = APART.replace(
    'user "{q} b" think 1 (align = linear) adapt lora(rank = 4, dropout = 0.1)',
    'user "{q} b" think 1 (align = linear) adapt as a',
)


def test_the_gradient_is_the_sum_over_those_who_use_it(tiny: Path) -> None:
    shared, apart = make_program(SHARED, tiny), make_program(APART, tiny)
    own = shared.trainable()
    for name, parameter in apart.trainable().items():
        parameter.data.copy_(own[name.replace(".b.weight", ".a.weight")])
    losses = [program(ROWS).loss for program in (shared, apart)]
    assert losses[0].equal(losses[1])
    for loss in losses:
        loss.backward()
    gradients = {name: p.grad for name, p in apart.trainable().items()}
    adapter = [name for name in own if ".lora_" in name]
    assert len(adapter) == len(own) - 2  # the maps of latent steps are each agent's own
    for name in adapter:
        parts = [gradients[name], gradients[name.replace(".a.weight", ".b.weight")]]
        assert all(part is not None and bool(part.abs().max() > 0) for part in parts)
        assert torch.allclose(own[name].grad, parts[0] + parts[1], atol=1e-6)


def test_it_is_one_of_everything(tiny: Path, tmp_path: Path) -> None:
    """One set of parameters, one name in metrics, one folder; what each activation gives to it is told apart."""
    program = make_program(SHARED, tiny)
    assert {program.owner(name) for name in program.trainable()} == {"a", "b"}
    assert {program.owner(name) for name in program.trainable() if ".lora_" in name} == {"a"}
    history = train(program, ROWS, steps=1, batch=2)
    assert set(history[0]["grad_norms"]) == {"a", "b", "c"}
    assert {"a#1", "b#1", "a#2", "b#2"} <= set(history[0]["grad_norms_by_round"])
    plain = make_program(SHARED.replace("align = linear", "align = norm"), tiny)
    assert set(train(plain, ROWS, steps=1, batch=2)[0]["grad_norms"]) == {"a", "c"}
    program.save_weights(tmp_path)
    assert [folder.name for folder in (tmp_path / "adapters").iterdir()] == ["a"]
    again = make_program(SHARED, tiny, awake=False)
    again.load_weights(tmp_path)
    with torch.no_grad():
        assert again(ROWS).loss.equal(program.eval()(ROWS).loss)


def test_what_agents_give_is_told_apart_without_rounds(tiny: Path) -> None:
    text = SHARED.replace("repeat 2 { a -> b : kv  b -> a : kv(carry = latents) }", "a -> b : kv")
    found = train(make_program(text, tiny), ROWS, steps=1, batch=2)[0]["grad_norms_by_round"]
    assert set(found) == {"a#1", "b#1"}
    assert all(norm > 0 for norm in found.values())


def test_a_run_goes_on_to_the_same_bits(tiny: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"batch": 2, "save_every": 1, "rate": 1e-3, "checkpoint": "agent"}
    whole, cut = make_program(SHARED, tiny), make_program(SHARED, tiny)
    train(whole, ROWS, directory=tmp_path / "whole", steps=4, **settings)

    class KilledError(Exception):
        pass

    def kill(metrics: dict[str, Any]) -> None:
        if metrics["step"] == 2:
            raise KilledError

    with pytest.raises(KilledError):
        train(cut, ROWS, directory=tmp_path / "cut", steps=4, listen=kill, **settings)
    again = make_program(SHARED, tiny, awake=False)
    train(again, ROWS, directory=tmp_path / "cut", resume=True, steps=4, **settings)
    theirs = again.trainable()
    assert all(p.equal(theirs[name]) for name, p in whole.trainable().items())


def test_an_artifact_and_what_begins_with_it(tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "team.mas"
    path.write_text(SHARED.replace("MODEL", f'"{tiny}"'))
    compilation = compile_file(path)
    program = build(compilation.require(), tmp_path, device="cpu", history=History(compilation))
    train(program, ROWS, steps=2, batch=2)
    program.save(tmp_path / "team.masc")
    taken = make_program(SHARED, tiny, awake=False).init_from(tmp_path / "team.masc")
    assert (taken.taken, taken.left, taken.unused) == (("a", "a", "b"), {}, ())
    apart = make_program(APART, tiny, awake=False).init_from(tmp_path / "team.masc")
    assert dict(apart.left) == {"b": "no adapter of that name there"}


def test_whether_weights_fit(tiny: Path) -> None:
    shared, apart = compile_plan(SHARED, tiny), compile_plan(APART, tiny)
    assert misfits(apart, shared) == []
    assert misfits(shared, apart) == ["the adapter of `b` was not trained"]


@pytest.mark.parametrize("control", [alone, pooled])
def test_the_one_that_answers_stands_alone(control: Any, tiny: Path, tmp_path: Path) -> None:
    """A control of one agent, whose adapter was another's, has one of its own."""
    path = tmp_path / "team.mas"
    path.write_text(SHARED.replace("MODEL", f'"{tiny}"').replace("adapt none", "adapt as a"))
    compilation = compile_file(path)
    graph: Graph | None = compilation.graph
    assert graph is not None
    (agent,) = lower(compilation, control(graph, "answer")).agents
    assert (agent.shares, agent.adapter) == (None, "c")
    assert agent.own is not None
    assert agent.own.rank == 4
