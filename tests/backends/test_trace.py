"""What a trace holds, and that patches put it in the place of what would have been sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from graphs import GRAPHS
from masc.backends.torch.model.prompts import prompt_ids
from support import ROWS, chain, make_program

RELAY = chain(("a", 2, "norm"), ("b", 1, "linear"), ("c", 0, "norm"))
SEVERAL = [
    "trace",
    "latents",
    "stack",
    "hidden, of the prompt too",
    "fuse between two models",
    "text beside keys and values",
    "nested rounds of many kinds",
]


def test_a_trace_holds_what_happened(tiny: Path) -> None:
    program = make_program(RELAY, tiny)
    trace = program.trace(ROWS)
    assert list(trace) == list(trace.turns) == ["a#1", "b#1", "c#1"]
    assert [answer["answer"] for answer in trace.answers] == program.generate(ROWS)
    turn, base = trace["a#1"], program.base("a")
    for i, row in enumerate(ROWS):
        assert list(turn.ids[i]) == prompt_ids(base, program.plan.agent("a"), row, i)
        assert base.tokenizer.decode(list(turn.ids[i])) == turn.prompts[i]
    assert turn.latents.shape == (len(ROWS), 2, 32)
    norms = turn.latents.norm(dim=-1)
    torch.testing.assert_close(norms, base.tau.expand_as(norms), rtol=1e-3, atol=1e-3)
    assert len(turn.keys) == len(turn.values) == 3
    assert turn.keys[0].shape == (len(ROWS), 2, turn.real.shape[1], 8)
    assert turn.texts is None
    assert trace["c#1"].texts == tuple(program.generate(ROWS))
    alone = program.trace([ROWS[0]])["b#1"]
    mine = trace["b#1"].row(0)
    assert bool(mine.real.all())
    assert mine.positions.tolist() == alone.positions.tolist()
    for own, other in zip(mine.keys, alone.keys, strict=True):
        torch.testing.assert_close(own, other, atol=1e-4, rtol=1e-4)


def test_hidden_states_and_vectors_are_shown(tiny: Path) -> None:
    trace = make_program(GRAPHS["hidden, of the prompt too"], tiny).trace(ROWS)
    sent = int(trace["a#1"].real.sum(1)[0])
    assert trace["a#1"].hidden.shape[1] == trace["a#1"].prompt + 2
    assert f"<{sent} vectors>" in trace["b#1"].prompts[0]


def test_a_forced_trace_keeps_the_graph_of_what_no_loss_is_behind(tiny: Path) -> None:
    """A loss of one's own may want it. A plain pass does without."""
    program = make_program(chain(("a", 1, "norm"), ("b", 0, "norm"), edge="kv(gradient = stop)"), tiny)
    assert [turn.gradient for turn in program.plan.turns] == [False, True]
    (keys, *_), mine = program.trace(ROWS, forced=True)["a#1"].keys, program.trainable()
    keys.sum().backward()
    assert any(".a." in name and p.grad is not None and bool(p.grad.any()) for name, p in mine.items())
    program.zero_grad()
    _, walk = program._forward(ROWS)
    assert not walk.segments["a#1"].layers[0][0].requires_grad
    assert walk.segments["b#1"].layers[0][0].requires_grad


@pytest.mark.parametrize("name", SEVERAL)
def test_a_trace_fed_back_changes_nothing(name: str, tiny: Path) -> None:
    program = make_program(GRAPHS[name], tiny)
    said, trace = program.say(ROWS, engine="exact"), program.trace(ROWS)  # patches are for the exact engine
    with program.patched(trace):
        assert program.say(ROWS) == said
    with torch.no_grad():  # with a graph norms are rounded in other places
        forced, plain = program.trace(ROWS, forced=True), program(ROWS).logits
        with program.patched(forced):
            assert torch.equal(program(ROWS).logits, plain)


def test_what_is_patched_is_what_others_get(tiny: Path) -> None:
    """Latents of other rows make the answers of other rows, where nothing else crosses."""
    program = make_program(chain(("a", 2, "norm"), ("b", 0, "norm"), edge="kv(carry = latents)"), tiny)
    with torch.no_grad():
        trace, plain = program.trace(ROWS, forced=True), program(ROWS).logits
        zeros = {("a#1", "values"): [torch.zeros_like(v) for v in trace["a#1"].values]}
        with program.patched(zeros):
            assert not torch.equal(program(ROWS).logits, plain)
        with program.patched({("a#1", "latents"): lambda own: own}):
            assert torch.equal(program(ROWS).logits, plain)
        with program.patched({("a#1", "latents"): lambda own: 2 * own}):
            assert not torch.equal(program(ROWS).logits, plain)
        assert torch.equal(program(ROWS).logits, plain)


def test_texts_can_be_patched(tiny: Path) -> None:
    program = make_program(GRAPHS["text"], tiny)
    with program.patched({("a#1", "texts"): ["so"] * len(ROWS)}):
        assert all("so" in prompt for prompt in program.trace(ROWS)["b#1"].prompts)


@pytest.mark.parametrize("recompute", [False, True])
def test_gradients_reach_patches(recompute: bool, tiny: Path) -> None:
    program = make_program(RELAY, tiny)
    latents = program.trace(ROWS)["a#1"].latents.clone().requires_grad_()
    with program.patched({("a#1", "latents"): latents}):
        loss = program(ROWS, recompute=recompute).loss
        loss.backward()
        assert latents.grad is not None
        step = 1e-2 * torch.nn.functional.normalize(latents.grad, dim=-1)
    with torch.no_grad(), program.patched({("a#1", "latents"): latents - step}):
        assert program(ROWS).loss < loss


WRONG: list[tuple[Any, str]] = [
    ({("a#2", "latents"): None}, "no activation"),
    ({("a#1", "latent"): None}, "cannot be patched"),
    ({("a#1", "latents"): torch.zeros(4, 3, 32)}, "shape"),
    ({("a#1", "keys"): [torch.zeros(1)] * 3}, "shape"),
    ({("a#1", "keys"): []}, "one a layer"),
    ({("c#1", "texts"): [1]}, "strings"),
]


@pytest.mark.parametrize(("patches", "message"), WRONG[:5])
def test_what_does_not_fit_is_told(patches: Any, message: str, tiny: Path) -> None:
    program = make_program(RELAY, tiny)
    with pytest.raises(ValueError, match=message), program.patched(patches):
        program.generate(ROWS)
    program.generate(ROWS)
