"""A model that is spread over two devices, and two models on two, say what they say on one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import dispatch_model
from pretend import placed, pretending

from graphs import GRAPHS
from masc.backends.torch.engine.modules import BRINGING
from masc.backends.torch.evaluation.evaluate import answer_losses
from masc.backends.torch.model.loading import SPREAD, is_spread, place_of
from masc.backends.torch.program import Program
from masc.backends.torch.training.train import train
from masc.compiler.ir.plan import agent_of
from masc.dsl.diagnostics import MascError
from support import ROWS, make_program


def spread(program: Program) -> None:
    """Put all but the first block of each model on another device, as accelerate does. Within `pretending`."""
    for base in program.models:
        blocks = base.model.get_decoder().layers
        there: dict[str, Any] = {f"model.layers.{i}": "cpu:2" for i in range(1, len(blocks))}
        there |= {"model.embed_tokens": "cpu:1", "model.rotary_emb": "cpu:1", "model.layers.0": "cpu:1"}
        there |= {"model.norm": "cpu:2", "lm_head": "cpu:2"}
        for name, place in there.items():
            placed(base.model.get_submodule(name), place)
        placed(base.model, "cpu:1")
        dispatch_model(base.model, there, main_device="cpu:1", force_hooks=True)
    placed(program, "cpu:1")


def same(found: Any, losses: Any, said: Any, expected: Any) -> None:
    for one, other in zip(found, said, strict=True):
        assert {n: (s.ids, s.text) for n, s in one.items()} == {n: (s.ids, s.text) for n, s in other.items()}
    assert [loss for loss, _ in losses] == pytest.approx([loss for loss, _ in expected], rel=1e-4)


@pytest.mark.parametrize("name", ["stacked latents", "gates beside a fused cache", "stop"])
def test_it_says_what_it_says_on_one_device(name: str, tiny: Path) -> None:
    program, rows = make_program(GRAPHS[name], tiny), ROWS[:2]
    with torch.no_grad():
        wanted = program.say(rows, engine="exact"), answer_losses(program, rows, 2, program.plan.outputs)
    with pretending():
        spread(program)
        assert all(is_spread(base.model) for base in program.models)
        found = program.say(rows)
        with program.holding(quick=True):
            losses = answer_losses(program, rows, 2, program.plan.outputs)
    same(found, losses, *wanted)


def apart(program: Program) -> None:
    """Put each model on a device of its own, and what an edge has where its receiver is. Within `pretending`."""
    places = {id(base): f"cpu:{i}" for i, base in enumerate(program.models, 1)}
    for base in program.models:
        placed(base, places[id(base)])
    for turn in program.plan.turns:
        for arrival in turn.arrives:
            if BRINGING[arrival.kind].link is not None:
                sender = agent_of(arrival.segment)
                placed(program.link(arrival.kind, sender, turn.agent), places[id(program.base(turn.agent))])


@pytest.mark.parametrize("name", ["nested rounds of many kinds", "hidden between two models", "fuse of what was fused"])
def test_two_models_on_two_devices_say_what_they_say_on_one(name: str, tiny: Path) -> None:
    program, rows = make_program(GRAPHS[name], tiny), ROWS[:2]
    assert len(program.models) == 2
    with torch.no_grad():
        wanted = program.say(rows, engine="exact"), answer_losses(program, rows, 2, program.plan.outputs)
    with pretending():
        apart(program)
        found, losses = program.say(rows, engine="exact"), answer_losses(program, rows, 2, program.plan.outputs)
    same(found, losses, *wanted)


def test_tensors_of_two_devices_do_not_go_together() -> None:
    """What the tests above stand on."""
    with pretending():
        one, other = (torch.ones(2).to(place) for place in ("cpu:1", "cpu:2"))
        with pytest.raises(RuntimeError, match="add of tensors on"):
            one + other
        assert (one + other.to("cpu:1")).tolist() == [2.0, 2.0]


def test_where_a_model_is_put() -> None:
    assert place_of(100, []) == "cpu"
    assert place_of(100, [200, 200]) == "cuda"
    assert place_of(250, [200, 200]) == SPREAD
    with pytest.raises(MascError, match=r"E0702.*0.4 GB"):
        place_of(400 << 20, [200 << 20, 200 << 20])


def test_a_spread_model_is_not_trained(tiny: Path) -> None:
    program = make_program(GRAPHS["trace"], tiny)
    for base in program.models:
        base.model.hf_device_map = {"model.layers.0": 0, "model.layers.1": 1}
    with pytest.raises(MascError, match=r"E0649.*spread"):
        train(program, ROWS, steps=1, batch=1)
