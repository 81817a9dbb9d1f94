"""LoRA as one function is PEFT's, in outputs and gradients, and adds up over the passes of an activation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn

from masc.backends.torch.model import applying, lora
from masc.backends.torch.model.adapters import layers_of
from masc.backends.torch.model.applying import make_contextual

BATCH, WIDTH, OTHER, RANK = 3, 24, 40, 4


class Block(nn.Module):
    """Three projections that read the same input, and one that reads what they make."""

    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.q_proj = nn.Linear(WIDTH, OTHER, bias=bias)
        self.k_proj = nn.Linear(WIDTH, OTHER, bias=bias)
        self.v_proj = nn.Linear(WIDTH, OTHER, bias=bias)
        self.o_proj = nn.Linear(OTHER, WIDTH, bias=bias)

    def forward(self, x: Tensor, part: str = "qkv") -> Tensor:
        q, k, v = self.q_proj(x), self.k_proj(x), self.v_proj(x)
        mixed = k * v.tanh() if part == "kv" else q * k.sigmoid() + v
        found: Tensor = self.o_proj(mixed)
        return found


def block(dtype: torch.dtype, bias: bool = False, wide: torch.dtype = torch.float32) -> Block:
    """One with an adapter that is awake, its matrices of the dtype `wide`; PEFT computes it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = Block(bias).to(dtype).requires_grad_(False)
        names = ["q_proj", "k_proj", "v_proj", "o_proj"]
        inject_adapter_in_model(LoraConfig(r=RANK, lora_alpha=6, target_modules=names), made, adapter_name="a")
        for name, parameter in made.named_parameters():
            if ".lora_" in name:
                parameter.data = torch.randn(parameter.shape).to(wide) * 0.1
                parameter.requires_grad_(True)
    return made


def ours(made: Block) -> Callable[..., Any]:
    """The same, one activation after the other, as masc computes it."""
    for layer in layers_of(made):
        make_contextual(layer, "a")
    groups = lora.groups_of(made)
    return lambda run: _run(groups, run)


def _run(groups: Any, run: Callable[[], Any]) -> Any:
    projections = lora.projections(groups, "a", {})
    assert len(projections) == 4
    with applying.using("a", projections=projections):
        return run()


def rows(dtype: torch.dtype, *widths: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(BATCH, width, WIDTH, generator=generator, dtype=torch.float64).to(dtype) for width in widths]


def passes(made: Block, inputs: list[Tensor]) -> Tensor:
    """Several passes, each through what the one before made: a prompt, then single positions."""
    state = torch.zeros(BATCH, 1, WIDTH, dtype=inputs[0].dtype)
    total = torch.zeros((), dtype=torch.float64)
    for x in inputs:
        out = made(x + state)
        state = out[:, -1:].tanh()
        total = total + out.double().pow(2).mean()
    return total


def found(made: Block, inputs: list[Tensor], within: Callable[..., Any] | None = None) -> dict[str, Tensor]:
    """The loss, and the gradients of adapters and inputs."""
    inputs = [x.clone().requires_grad_() for x in inputs]
    loss: Tensor = passes(made, inputs) if within is None else within(lambda: passes(made, inputs))
    loss.backward()
    gradients = {name: p.grad for name, p in made.named_parameters() if p.requires_grad}
    gradients |= {f"input {i}": x.grad for i, x in enumerate(inputs)}
    assert all(gradient is not None for gradient in gradients.values())
    return {"loss": loss.detach(), **{name: g.double() for name, g in gradients.items() if g is not None}}


def error(those: Mapping[str, Tensor], true: Mapping[str, Tensor]) -> dict[str, float]:
    """Relative, by tensor."""
    return {name: float((those[name] - true[name]).norm() / true[name].norm()) for name in true}


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("dtype", "wide", "rtol"), [("float32", "float32", 1e-6), ("float64", "float64", 1e-12)])
def test_it_is_pefts(dtype: str, wide: str, rtol: float, bias: bool) -> None:
    """Forward and backward, over a wide pass, which is added at once, and narrow ones, which are added together."""
    kinds = getattr(torch, dtype), getattr(torch, wide)
    inputs = rows(kinds[0], 30, 1, 1, 1, 5)
    theirs = found(block(kinds[0], bias, kinds[1]), inputs)
    made = block(kinds[0], bias, kinds[1])
    assert max(error(found(made, inputs, ours(made)), theirs).values()) < rtol


@pytest.mark.parametrize("device", ["cpu", "other"])
def test_in_bfloat16_it_is_as_near_the_truth_as_pefts(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU the adapter's products are taken in float32, elsewhere in bfloat16."""
    inputs = rows(torch.bfloat16, 30, 1, 1, 1, 5)
    made = block(torch.bfloat16)
    exact = block(torch.float64, wide=torch.float64)
    for own, one in zip(exact.parameters(), made.parameters(), strict=True):
        own.data.copy_(one.data)
    true = found(exact, [x.double() for x in inputs])
    theirs = error(found(block(torch.bfloat16), inputs), true)
    if device == "other":
        monkeypatch.setattr(lora._Member, "dtype", property(lambda self: self.weight.dtype))
    mine = error(found(made, inputs, ours(made)), true)
    loose = 1.05 if device == "cpu" else 1.5
    assert sum(mine.values()) < loose * sum(theirs.values())
    assert {p.grad.dtype for p in made.parameters() if p.grad is not None} == {torch.float32}


def test_a_projection_whose_output_leads_nowhere_gets_no_gradient() -> None:
    made = block(torch.float32)
    plain = block(torch.float32)
    (x,) = rows(torch.float32, 6)
    plain(x, "kv").pow(2).mean().backward()
    ours(made)(lambda: made(x, "kv")).pow(2).mean().backward()
    gradients = {name: p.grad for name, p in made.named_parameters() if p.requires_grad}
    for name, parameter in plain.named_parameters():
        if parameter.requires_grad:
            own = gradients[name]
            assert (own is None) == (parameter.grad is None) == ("q_proj" in name), name
            assert own is None or torch.allclose(own, parameter.grad, atol=1e-6)


def test_each_backward_pass_takes_what_it_has_added() -> None:
    """A pass over the graph for another gradient adds nothing to the next one, and two passes give twice as much."""
    made = block(torch.float32)
    inputs = [x.requires_grad_() for x in rows(torch.float32, 4, 1, 1)]
    loss = ours(made)(lambda: passes(made, inputs))
    own = [p for p in made.parameters() if p.requires_grad]
    once = torch.autograd.grad(loss, own, retain_graph=True)
    torch.autograd.grad(loss, inputs[:1], retain_graph=True)
    loss.backward(retain_graph=True)
    assert all(p.grad is not None and p.grad.equal(gradient) for p, gradient in zip(own, once, strict=True))
    loss.backward()
    assert all(p.grad is not None and torch.allclose(p.grad, 2 * g) for p, g in zip(own, once, strict=True))


def test_weights_that_change_before_the_backward_pass_are_an_error() -> None:
    made = block(torch.float32)
    loss = ours(made)(lambda: passes(made, rows(torch.float32, 4)))
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.requires_grad:
                parameter.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_other_kinds_are_left_to_peft() -> None:
    for kind in ({"use_dora": True}, {"lora_dropout": 0.1}):
        made = Block(False)
        inject_adapter_in_model(LoraConfig(r=2, target_modules=["q_proj"], **kind), made, adapter_name="a")
        assert not lora.projections(lora.groups_of(made), "a", {})
