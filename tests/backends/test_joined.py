"""Attention's projections, gated MLPs and blocks as one function: gradients are those of transformers' own modules,
where a module turns out to be one; and the weights that they read stand side by side."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from families import make_family
from torch import Tensor

from masc.backends.torch.model import blocks, gated, heads
from masc.backends.torch.model.attention import watching
from masc.backends.torch.model.base import Base
from masc.backends.torch.proving import identities

JOINED = {
    "llama": [True] * 6,
    "qwen2": [True] * 6,  # biases
    "qwen3": [True] * 6,  # norms of heads
    "granite": [False, True, True] * 2,  # what a block adds is weighed
    "gemma2": [True] * 4,  # caps, another activation; blocks with more norms
    "exaone4": [True, True, False, True],  # a layer without rotary embedding
    "cohere": [False, True, False, True],  # rotates pairs of neighbours
}
"""By type, what of each layer is computed here: the block (where it has the usual parts), its attention, its MLP."""


def joined(base: Base) -> list[bool]:
    return [bool(module.tried) for module in base.model.modules() if hasattr(module, "tried")]


def gradients(program: Any) -> dict[str, Tensor | None]:
    program.train()
    named = program.trainable()
    loss = program(identities.ROWS).loss
    found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
    return {"loss": loss.detach(), **dict(zip(named, found, strict=True))}


@pytest.mark.parametrize("kind", JOINED)
def test_gradients_are_those_of_transformers(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_family(tmp_path / kind, kind)
    base = Base(folder, torch.float64)
    program = identities.adapted(base, "kv")
    for parameter in program.trainable().values():
        parameter.data = parameter.data.double()
    ours = gradients(program)
    assert joined(base) == JOINED[kind]
    for module in (heads, gated, blocks):
        monkeypatch.setattr(module, "group_of", lambda *layers: None)
    theirs = gradients(program)
    for name, own in ours.items():
        other = theirs[name]
        assert (own is None) == (other is None), name
        assert own is None or other is None or (own - other).norm() <= 1e-12 * other.norm(), name


@pytest.mark.parametrize("kind", ["llama", "granite"])
def test_coarse_numbers_show_what_a_module_computes(kind: str, tmp_path: Path) -> None:
    base = Base(make_family(tmp_path / kind, kind), torch.bfloat16)
    identities.adapted(base, "kv")(identities.ROWS)
    assert joined(base) == JOINED[kind]


def test_who_hooks_in_or_watches_sees_every_pass_and_no_trial(tmp_path: Path) -> None:
    base = Base(make_family(tmp_path / "m", "llama"), torch.float32)
    identities.adapted(base, "kv")
    told: list[object] = []
    base.model.get_decoder().layers[0].mlp.up_proj.register_forward_hook(lambda *_: told.append("up"))
    row = torch.arange(4)[None]
    for _ in range(2):
        with base.applying("first"), watching(SimpleNamespace(note=lambda layer, weights: told.append(layer))):
            base.run(row, row, None, base.cache(None))
    assert told == [0, "up", 1] * 2
    assert joined(base) == [True] * 4  # how the first layer attends, and all of the other


def test_weights_stand_side_by_side_and_are_what_they_were(tmp_path: Path) -> None:
    """Also where an adapter sits on some of them only: then they stay where they are."""
    base = Base(make_family(tmp_path / "m", "llama"), torch.float32)
    before = {name: tensor.clone() for name, tensor in base.model.state_dict().items()}
    program = identities.adapted(base, "kv")
    program(identities.ROWS)
    attention = base.model.get_decoder().layers[0].self_attn
    weights = [getattr(attention, f"{name}_proj").get_base_layer().weight for name in "qkv"]
    assert weights[1].data_ptr() == weights[0].data_ptr() + weights[0].numel() * 4
    assert len({weight.untyped_storage().data_ptr() for weight in weights}) == 1
    here = weights[0].data_ptr()
    for name in ("first", "second"):
        del attention.k_proj.lora_A[name]
    program(identities.ROWS)
    assert weights[0].data_ptr() == here
    after = {name.replace("base_layer.", ""): tensor for name, tensor in base.model.state_dict().items()}
    assert all(after[name].equal(tensor) for name, tensor in before.items())
