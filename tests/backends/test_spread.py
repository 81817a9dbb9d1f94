"""A model that is spread over two devices says what it says on one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import dispatch_model
from pretend import placed, pretending

from graphs import GRAPHS
from masc.backends.torch.evaluation.evaluate import answer_losses
from masc.backends.torch.model.loading import SPREAD, is_spread, place_of
from masc.backends.torch.program import Program
from masc.backends.torch.training.train import train
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
    for one, other in zip(found, wanted[0], strict=True):
        assert {n: (said.ids, said.text) for n, said in one.items()} == {n: (s.ids, s.text) for n, s in other.items()}
    assert [loss for loss, _ in losses] == pytest.approx([loss for loss, _ in wanted[1]], rel=1e-4)


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
