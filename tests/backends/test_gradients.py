"""Gradients: present where the plan says, absent where it says, right to finite differences."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from graphs import GRAPHS, fan, graph_program, pair
from masc.backends.torch.engine.script import Thinking
from masc.backends.torch.engine.walk import Walk
from masc.backends.torch.model.base import Base
from masc.backends.torch.model.segments import Opening
from masc.backends.torch.training.reached import reached
from masc.backends.torch.training.schedule import data_order
from masc.backends.torch.training.train import train
from masc.compiler.analysis.reach import with_reach
from masc.compiler.ir.plan import Turn
from masc.compiler.pipeline import compile_source
from masc.dsl.source import Source
from support import ROWS, chain, make_model, make_other, make_program


def test_reached_once_the_model_is_there(tiny: Path) -> None:
    """Compiled before it was fetched, a plan does not name the layers; what is counted is the same."""
    program = make_program(MORE["a chain without latents"], tiny)
    known = reached(program)
    with program.running(with_reach(program.plan, {})):
        assert reached(program) == known


def test_a_link_that_nobody_hears_is_not_reached(tiny: Path) -> None:
    """Fused are keys and values of the prompt alone: the trainable map behind the latent steps gets no gradient."""
    text = pair("fuse(width = 8)", "Again: {q}", on="m", think=1).replace("think 1", "think 1 (align = linear)", 1)
    program = make_program(text, tiny)
    assert "links.a" in program.trainable()
    assert set(reached(program)) == touched(program)
    assert "links.a" not in reached(program)


def touched(program: Any, **options: Any) -> set[str]:
    program.zero_grad()
    program(ROWS, **options).loss.backward()
    found = {n for n, p in program.trainable().items() if p.grad is not None and p.grad.abs().max() > 0}
    program.zero_grad()
    return found


MORE = {
    "stop at one of two": """
mas 1
model m = MODEL
agent a on m { user "{q} a" think 1 adapt lora(rank = 4) }
agent b on m { user "{q} b" think 1 adapt lora(rank = 4) }
agent c on m { user "{q} c" adapt lora(rank = 4) answer }
graph g(q) -> answer { a -> c : kv(gradient = stop)  b -> c : kv }
""",
    "full by one path, stop by the other": """
mas 1
model m = MODEL
agent a on m { user "{q} a" think 1 adapt lora(rank = 4) }
agent b on m { user "{q} b" think 1 adapt lora(rank = 4) }
agent c on m { user "{q} c" adapt lora(rank = 4) answer }
graph g(q) -> answer { a -> b : kv(gradient = stop)  [a, b] -> c : kv }
""",
    "other layers, other gradients": """
mas 1
model m = MODEL
agent a on m { user "{q} a" adapt lora(rank = 4) }
agent b on m { user "{q} b" adapt lora(rank = 4) }
agent c on m { user "{q} c" adapt lora(rank = 4) answer }
graph g(q) -> answer {
  a -> b : kv(layers = 0..0)  b -> c : kv  a -> c : kv(carry = own, layers = 2..2, gradient = stop)
}
""",
    "latents in full, the prompt stopped": """
mas 1
model m = MODEL
agent a on m { user "{q} a" think 1 (align = linear, gradient = stop) adapt lora(rank = 4) }
agent b on m { user "{q} b" adapt none }
agent c on m { user "{q} c" adapt lora(rank = 4) answer }
graph g(q) -> answer {
  a -> b : kv(carry = latents, layers = 0..1)  b -> c : kv  a -> c : kv(carry = own, gradient = stop)
}
""",
    "fused into low layers only": """
mas 1
model m = MODEL
agent a on m { user "{q} a" adapt lora(rank = 4) }
agent b on m { user "{q} b" adapt lora(rank = 4) }
agent c on m { user "{q} c" adapt lora(rank = 4) answer }
graph g(q) -> answer { a -> b : fuse(width = 4)  b -> c : kv(carry = own, layers = 0..1) }
""",
    "behind two fusers in a row": """
mas 1
model m = MODEL
agent a on m { user "{q} a" adapt lora(rank = 4) }
agent b on m { user "{q} b" adapt lora(rank = 4) }
agent c on m { user "{q} c" adapt lora(rank = 4) answer }
graph g(q) -> answer { a -> b : fuse(width = 4)  b -> c : fuse(width = 4, layers = 1..1) }
""",
    "behind two fusers that share one layer": """
mas 1
model m = MODEL
agent a on m { user "{q} a" adapt lora(rank = 4) }
agent b on m { user "{q} b" adapt lora(rank = 4) }
agent c on m { user "{q} c" adapt lora(rank = 4) answer }
graph g(q) -> answer { a -> b : fuse(width = 4, layers = 1..2)  b -> c : fuse(width = 4, layers = 0..1) }
""",
    "fused, and seen in low layers": """
mas 1
model m = MODEL
agent a on m { user "{q} a" adapt lora(rank = 4) }
agent b on m { user "{q} b" adapt lora(rank = 4) }
agent c on m { user "{q} c" adapt lora(rank = 4) answer }
graph g(q) -> answer { a -> b : fuse(width = 4)  b -> c : fuse(width = 4, layers = 2..2)  b -> c : kv(layers = 0..1) }
""",
    "vectors beside tokens whose keys of the first layer are fused": """
mas 1
model m = MODEL
agent a on m { user "{q} a" think 1 adapt lora(rank = 4) }
agent b on m { user "{a} {q}" adapt lora(rank = 4) }
agent c on m { user "{q} c" adapt lora(rank = 4) answer }
graph g(q) -> answer { a -> b : hidden  b -> c : fuse(width = 4, layers = 0..0) }
""",
    "vectors before tokens whose keys of the second layer are fused": """
mas 1
model m = MODEL
agent a on m { user "{q} a" think 1 adapt lora(rank = 4) }
agent b on m { user "{a} {q}" adapt lora(rank = 4) }
agent c on m { user "{q} c" adapt lora(rank = 4) answer }
graph g(q) -> answer { a -> b : hidden  b -> c : fuse(width = 4, layers = 1..1) }
""",
    "a map that only a stopped view shows": """
mas 1
model m = MODEL
agent a on m { user "{q} a" think 1 (align = linear) adapt lora(rank = 4) }
agent b on m { user "{q} b" adapt lora(rank = 4) answer }
graph g(q) -> answer { a -> b : kv(gradient = stop)  a -> b : fuse(width = 4) }
""",
    "low layers only, no latents": chain(("a", 0, "norm"), ("b", 0, "norm"), edge="kv(layers = 0..1)"),
    "a chain without latents": chain(("a", 0, "norm"), ("b", 0, "norm"), ("c", 0, "norm"), ("d", 0, "norm")),
    "low layers through a middle agent": """
mas 1
model m = MODEL
agent a on m { user "{q} a" adapt lora(rank = 4) }
agent b on m { user "{q} b" adapt lora(rank = 4) }
agent c on m { user "{q} c" adapt lora(rank = 4) answer }
graph g(q) -> answer { a -> b : kv  b -> c : kv(carry = own, layers = 1..1) }
""",
    "out of reach": """
mas 1
model m = MODEL
agent a on m { user "{q} a" adapt lora(rank = 4) }
agent b on m { user "{q} b" adapt lora(rank = 4) }
agent c on m { user "{q} c" adapt lora(rank = 4) answer }
graph g(q) -> answer { a -> b : kv(layers = 1..2)  b -> c : kv(carry = own, layers = 0..1) }
""",
    "frozen sender": chain(("a", 1, "norm"), ("b", 0, "norm")).replace(
        "adapt lora(rank = 4, alpha = 8) ", "adapt none ", 1
    ),
    "lengths of DoRA": chain(
        ("a", 2, "norm"), ("b", 0, "norm"), ("c", 0, "norm"), adapt="lora(rank = 2, rslora = true, dora = true)"
    ),
    "attention only": chain(("a", 1, "norm"), ("b", 0, "norm"), adapt="lora(rank = 2, targets = attention)"),
}


@pytest.mark.parametrize("name", [*GRAPHS, *MORE])
def test_gradient_reaches_exactly_what_the_plan_says(name: str, tiny: Path) -> None:
    program = graph_program(name, tiny) if name in GRAPHS else make_program(MORE[name], tiny)
    want = set(reached(program))
    assert want
    assert touched(program) == want


def test_a_stopped_view_beside_another_of_its_segment_lets_nothing_through(tiny: Path) -> None:
    """What the edges say, whatever the plan makes of them."""
    names = {name for name in touched(make_program(MORE["other layers, other gradients"], tiny)) if ".a." in name}
    assert names
    assert all(".layers.0." in name and ("k_proj" in name or "v_proj" in name) for name in names)


def test_stop_and_open_are_told_apart_row_by_row(tiny: Path) -> None:
    """`c` sees all of `a` without a gradient, its latents with one, and while the channel is open all of it with one: a
    row whose channel is closed gives the prompt's keys no gradient."""
    text = """
mas 1
model m = MODEL
agent a on m { user "{q} a" think 2 (align = norm, gradient = stop) adapt lora(rank = 4, targets = [v_proj]) }
agent b on m { user "{q} b" adapt none }
agent c on m { user "{q} c" adapt none answer }
graph g(q) -> answer {
  a -> b : kv(carry = latents, open = 10)
  b -> c : kv
  a -> c : kv(carry = own, gradient = stop)
}
"""
    program = make_program(text, tiny)
    seen: dict[int, torch.Tensor] = {}

    def noted(self: Walk, turn: Turn, *rest: Any) -> None:
        own(self, turn, *rest)
        if turn.activation == "a#1":
            values = self.segments["a#1"].layers[0][1]
            values.register_hook(lambda gradient: seen.update({len(seen): gradient.abs().amax((1, 3))}))

    own = Walk._activate
    Walk._activate = noted  # type: ignore[method-assign]
    try:
        program(ROWS, opening=Opening(5, torch.tensor([0.2, 0.8, 0.4, 0.6]))).loss.backward()
    finally:
        Walk._activate = own  # type: ignore[method-assign]
    prompt = seen[0][:, :-2].amax(1) > 0
    assert prompt.tolist() == [False, True, False, True]
    assert bool((seen[0][:, -2:] > 0).all())


def test_what_is_reached_only_while_a_channel_is_open(tiny: Path) -> None:
    """As W0314 says: the adapter of `a` gets a gradient while the channel is open, and none once it is closed."""
    narrow = "kv(carry = own, layers = 0..0, open = 10 as trace)"
    text = chain(("a", 0, "norm"), ("b", 0, "norm"), ("c", 0, "norm"))
    text = text.replace("a -> b -> c : kv", f"a -> b : kv  b -> c : {narrow}")
    said = compile_source(Source("x.mas", text.replace("MODEL", f'"{tiny}"'))).diagnostics
    assert [d.code for d in said] == ["W0314"]
    program = make_program(text, tiny)
    for opening, trained in ((Opening(9, torch.full((len(ROWS),), 0.95)), True), (None, False)):
        program.zero_grad(set_to_none=True)
        program(ROWS, opening=opening).loss.backward()
        own = [p.grad for name, p in program.trainable().items() if program.owner(name) == "a"]
        assert any(grad is not None and bool(grad.abs().max() > 0) for grad in own) == trained


@pytest.mark.parametrize(
    "name", ["trace", "stack", "layers", "own", "hidden", "fuse", "rounds", "an answer in the middle"]
)
def test_checkpointing_by_agent_changes_no_gradient(name: str, tiny: Path) -> None:
    program = make_program(GRAPHS[name], tiny)
    program(ROWS).loss.backward()
    plain = {n: p.grad.clone() for n, p in program.trainable().items() if p.grad is not None}
    program.zero_grad()
    program(ROWS, recompute=True).loss.backward()
    for name, gradient in plain.items():
        assert torch.equal(gradient, program.get_parameter(name).grad), name


def test_switching_adapters_drops_no_gradient(tiny: Path) -> None:
    """After decoding and after other passes, every adapter still requires a gradient and gets it."""
    program = make_program(GRAPHS["trace"], tiny)
    before = touched(program)
    program.generate(ROWS)
    program(ROWS)
    assert all(p.requires_grad for p in program.trainable().values())
    assert touched(program) == before


def test_a_trainable_link_gets_gradient(tiny: Path) -> None:
    program = make_program(chain(("a", 2, "linear"), ("b", 0, "norm"), edge="kv(carry = latents)"), tiny)
    assert "links.a" in touched(program)


@pytest.mark.parametrize("how", ["norm", "soft"])
def test_stopped_latent_steps_are_constants(how: str, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same numbers, and the gradient that there is if every latent step is fed what was recorded. With a gradient
    graph they are read in one pass, which adds up in another order."""
    text = chain(("a", 3, f"{how}, gradient = stop"), ("b", 0, "norm"), edge="kv(carry = latents)")
    stopped, whole = make_program(text, tiny), make_program(text.replace(", gradient = stop", ""), tiny)
    with torch.no_grad():
        assert torch.equal(stopped(ROWS).logits, whole(ROWS).logits)
    out = stopped(ROWS)
    torch.testing.assert_close(out.logits, whole(ROWS).logits, atol=1e-4, rtol=1e-4)
    out.loss.backward()
    fed: list[torch.Tensor] = []
    thinking = Walk._thinking

    def recorded(self: Walk, *given: Any) -> Thinking:
        made = thinking(self, *given)

        def embed(hidden: torch.Tensor) -> torch.Tensor:
            fed.append(made.embed(hidden).detach())
            return fed[-1]

        return replace(made, embed=embed)

    monkeypatch.setattr(Walk, "_thinking", recorded)
    whole(ROWS).loss.backward()
    assert len(fed) == 3
    gradients = {name: p.grad for name, p in stopped.trainable().items() if p.grad is not None}
    for name, parameter in whole.trainable().items():
        if name in gradients:
            torch.testing.assert_close(gradients[name], parameter.grad, atol=1e-6, rtol=1e-4)
    monkeypatch.undo()
    whole.zero_grad()
    whole(ROWS).loss.backward()
    k_proj = next(name for name in gradients if "k_proj.lora_A.a" in name)
    assert not torch.allclose(gradients[k_proj], whole.get_parameter(k_proj).grad, rtol=1e-2)


def test_stopped_latent_steps_are_read_in_one_pass(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a gradient is wanted, and nothing is dropped by chance: what they read is worked out without one before."""
    passes: list[tuple[int, bool]] = []
    run = Base.run

    def noted(self: Base, inputs: torch.Tensor, *others: Any, **named: Any) -> torch.Tensor:
        passes.append((inputs.shape[1], torch.is_grad_enabled()))
        return run(self, inputs, *others, **named)

    monkeypatch.setattr(Base, "run", noted)
    text = chain(("a", 3, "norm, gradient = stop"), ("b", 0, "norm"))
    program = make_program(text, tiny)
    program(ROWS)
    assert passes[1:-1] == [(1, False), (1, False), (3, True)]
    passes.clear()
    make_program(text.replace("lora(", "lora(dropout = 0.1, "), tiny).train()(ROWS)
    assert passes[1:-1] == [(1, True)] * 3


def test_the_base_never_gets_one(tiny: Path) -> None:
    program = make_program(GRAPHS["trace"], tiny)
    program(ROWS).loss.backward()
    trainable = program.trainable()
    assert all(p.grad is None for n, p in program.named_parameters() if n not in trainable)
    assert set(program.state_dict(trainable_only=True)) == set(trainable)


def test_fresh_lora_a_has_no_gradient_before_the_first_step(tiny: Path) -> None:
    """PEFT starts with lora_B = 0: the tests above must wake the adapters or they would see nothing."""
    program = make_program(GRAPHS["trace"], tiny, awake=False)
    assert not any(".lora_A." in name for name in touched(program))


DIFFERENTIABLE = {
    **{name: GRAPHS[name] for name in ("trace", "own", "latents", "layers", "overlap", "stack", "stacked latents")},
    **{name: GRAPHS[name] for name in GRAPHS if name.startswith(("hidden", "fuse"))},
    **{name: GRAPHS[name] for name in GRAPHS if name.startswith("gates") and "stop" not in name},
    "answer in the middle": GRAPHS["an answer in the middle"],
    "supervised text": GRAPHS["text, supervised"],
    "rounds": GRAPHS["rounds"],
    "nested rounds": GRAPHS["nested rounds of many kinds"],
    "a shared adapter": GRAPHS["a shared adapter"].replace(", dora = true", ""),  # which takes norms for constants
    "rounds with a shared adapter": GRAPHS["rounds with a shared adapter"],
    "linear": chain(("a", 2, "linear"), ("b", 0, "norm"), edge="kv(carry = latents)"),
    "soft": chain(("a", 2, "soft"), ("b", 0, "norm"), edge="kv(carry = latents)"),
    "procrustes": chain(("a", 2, "procrustes"), ("b", 0, "norm"), edge="kv(carry = latents)"),
    "ridge": chain(("a", 2, "ridge"), ("b", 0, "norm"), edge="kv(carry = latents)"),
    "open": chain(("a", 2, "norm"), ("b", 1, "norm"), ("c", 0, "norm"), edge="kv(carry = latents, open = 10 as trace)"),
}


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_f_gradients_match_central_differences(name: str, tmp_path: Path) -> None:
    folder = make_model(tmp_path / "two", num_hidden_layers=2, initializer_range=0.05)
    deep = 4 if "layers = 2..3" in DIFFERENTIABLE[name] else 3
    make_other(tmp_path / "other", num_hidden_layers=deep, initializer_range=0.05)
    text = DIFFERENTIABLE[name].replace("layers = 0..1", "layers = 0..0")
    program = make_program(text, folder).double()
    opening = Opening(4, torch.tensor([0.1, 0.9, 0.5, 0.3])) if name == "open" else None
    generator = torch.Generator().manual_seed(3)
    # Where a gradient is stopped, what lies behind must not move: the loss depends on it all the same.
    moved = reached(program) if "stop" in name else program.trainable().keys()
    parameters = [p for n, p in program.trainable().items() if n in moved]
    with torch.no_grad():
        for parameter in program.links.values():  # off the ridge, where the map is singled out
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    program(ROWS, opening=opening).loss.backward()
    gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
    direction = [torch.randn(p.shape, generator=generator, dtype=torch.float64) for p in parameters]
    size = sum(float(d.pow(2).sum()) for d in direction) ** 0.5
    analytic = sum(float((g * d).sum()) for g, d in zip(gradients, direction, strict=True)) / size

    def loss_at(step: float) -> float:
        with torch.no_grad():
            for p, d in zip(parameters, direction, strict=True):
                p += step / size * d
            value = float(program(ROWS, opening=opening).loss)
            for p, d in zip(parameters, direction, strict=True):
                p -= step / size * d
        return value

    # Richardson: the loss bends so strongly in places that the error of one difference would show.
    whole, half = ((loss_at(step) - loss_at(-step)) / (2 * step) for step in (1e-5, 5e-6))
    numeric = (4 * half - whole) / 3
    assert analytic == pytest.approx(numeric, rel=2e-6, abs=1e-9)


def test_open_shows_more_to_the_samples_whose_channel_is_still_open(tiny: Path) -> None:
    closed = chain(("a", 2, "norm"), ("b", 0, "norm"), edge="kv(carry = latents)")
    program = make_program(chain(("a", 2, "norm"), ("b", 0, "norm"), edge="kv(carry = latents, open = 10)"), tiny)
    final = make_program(closed, tiny)
    wide = make_program(chain(("a", 2, "norm"), ("b", 0, "norm"), edge="kv(carry = own)"), tiny)
    assert any(view.until == 10 for turn in program.plan.turns for view in turn.sees)
    with torch.no_grad():
        half = program(ROWS, opening=Opening(5, torch.tensor([0.2, 0.8, 0.4, 0.6]))).logits
        shut, open_ = final(ROWS).logits, wide(ROWS).logits
        for row, want in enumerate((shut, open_, shut, open_)):
            torch.testing.assert_close(half[row], want[row], atol=1e-4, rtol=0)
        for opening in (None, Opening(10, torch.full((4,), 0.99))):
            torch.testing.assert_close(program(ROWS, opening=opening).logits, shut, atol=1e-5, rtol=0)


def test_in_a_loop_of_ones_own_channels_open_as_the_trainer_opens_them(tiny: Path, recwarn: Any) -> None:
    text = chain(("a", 2, "norm"), ("b", 0, "norm"), edge="kv(carry = latents, open = 3)")
    program, other = make_program(text, tiny), make_program(text, tiny)
    settings: dict[str, Any] = {"steps": 4, "batch": len(ROWS), "warmup": 0.0, "rate": 1e-3, "clip": 0.0}
    wanted = train(other, ROWS, **settings)
    program.train()
    optimizer = torch.optim.AdamW(program.trainable().values(), weight_decay=0.0)
    order = data_order(program.plan.train.seed, len(ROWS))
    for step in range(4):
        for group in optimizer.param_groups:
            group["lr"] = wanted[step]["rate"]
        loss = program([ROWS[next(order)] for _ in ROWS], step=step).loss
        assert loss.item() == pytest.approx(wanted[step]["loss"], rel=1e-4)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert not [w for w in recwarn if "W0310" in str(w.message)]
    for _ in range(2):
        program(ROWS)
    assert len([w for w in recwarn if "W0310" in str(w.message)]) == 1
    with pytest.raises(ValueError, match="negative"):
        program(ROWS, step=-1)


def test_fan_reaches_all_siblings(tiny: Path) -> None:
    program = make_program(fan("carry = latents"), tiny)
    assert {program.owner(n) for n in touched(program)} == {"first", "second", "third", "last"}
