"""Gated MLPs as one autograd function: `down(act(gate x) * up x)`, with the LoRA of all three. For the gradient the
input, what gate and up make of it, and A x alone are kept; the rest is computed again.

Which modules are one, and of which activation, is found by trying (`recast.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from masc.backends.torch.model.lora import Group, group_of
from masc.backends.torch.model.recast import found, numbers, recast

PROJECTIONS = ("gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Activation:
    """An activation, and its gradient: (gradient, input, grad_input=where it goes)."""

    forward: Callable[[Tensor], Tensor]
    back: Callable[..., Tensor]


def _gelu(kind: str) -> Activation:
    back = partial(torch.ops.aten.gelu_backward.grad_input, approximate=kind)
    return Activation(partial(functional.gelu, approximate=kind), back)


_ACTIVATIONS = (
    Activation(functional.silu, torch.ops.aten.silu_backward.grad_input),
    _gelu("tanh"),
    _gelu("none"),
)


@dataclass(frozen=True, eq=False)
class Gated:
    """A gated MLP under an adapter. wide: gate and up."""

    wide: Group
    down: Group
    activation: Activation

    @property
    def halves(self) -> tuple[Tensor, ...]:
        """As `Group.halves`."""
        return *self.wide.halves, *self.down.halves

    def forward(self, x: Tensor, onto: Tensor | None = None) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        """Inputs [N, d] to outputs [N, d]; beside it what `back` needs: what gate and up make, [N, 2 w], and A x of
        both groups. onto: what the outputs are added to."""
        both, first = self.wide.forward(x)
        gate, up = both.chunk(2, 1)
        output, second = self.down.forward(self.activation.forward(gate).mul_(up), onto)
        return output, (both, first, second)

    def back(self, x: Tensor, kept: Sequence[Tensor], gradient: Tensor, wanted: Sequence[bool]) -> Tensor | None:
        """The gradient of inputs of that of outputs. wanted: as of `Group.back`."""
        both, first, second = kept
        gate, up = both.chunk(2, 1)
        active = self.activation.forward(gate)
        inner = self.down.back(active * up, second, gradient, (wanted[0], True))
        assert inner is not None
        whole = torch.empty_like(both)
        ahead, beside = whole.chunk(2, 1)
        torch.mul(inner, active, out=beside)
        self.activation.back(inner.mul_(up), gate, grad_input=ahead)
        return self.wide.back(x, first, whole, wanted)


class _Whole(torch.autograd.Function):
    """An input [..., d] to an output [..., d]."""

    @staticmethod
    def forward(ctx: Any, _: Tensor, x: Tensor, mlp: Gated) -> Tensor:
        ctx.set_materialize_grads(False)
        output, kept = mlp.forward(x.reshape(-1, x.shape[-1]))
        ctx.save_for_backward(x, *kept, *mlp.halves)
        ctx.mlp = mlp
        return output.view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor | None) -> tuple[Tensor | None, ...]:
        if gradient is None:
            return None, None, None
        x, *kept = ctx.saved_tensors
        flat = x.reshape(-1, x.shape[-1])
        back = ctx.mlp.back(flat, kept[:3], gradient.reshape(flat.shape), ctx.needs_input_grad)
        return None, None if back is None else back.view(x.shape), None


def gated_of(module: Any) -> Gated | None:
    """What computes a module in this thread, if it is a gated MLP whose projections have plain adapters."""
    if not hasattr(type(module), "own"):
        return None
    wide, down = group_of(module.gate_proj, module.up_proj), group_of(module.down_proj)
    if wide is None or down is None:
        return None
    activation = found(module, _activation_of)
    return None if activation is None else Gated(wide, down, activation)


def _activation_of(module: Any) -> Activation | None:
    """Which activation makes a module a gated MLP; None: it is none."""
    x = numbers(module.gate_proj.weight, 3, module.gate_proj.in_features)
    theirs, gate, up = type(module).own(module, x), module.gate_proj(x), module.up_proj(x)
    made = ((one, module.down_proj(one.forward(gate) * up)) for one in _ACTIVATIONS)
    return next((one for one, ours in made if torch.equal(ours, theirs)), None)


def join_gated(model: nn.Module) -> None:
    """Let modules that have the projections of a gated MLP be computed in one, where they turn out to be one."""
    for module in model.modules():
        children = dict(module.named_children())
        if all(isinstance(children.get(name), nn.Linear) for name in PROJECTIONS):
            recast(module, _forward)


def _forward(self: Any, x: Tensor, *others: Any, **named: Any) -> Any:
    mlp = None if others or named else gated_of(self)
    if mlp is None:
        return type(self).own(self, x, *others, **named)
    if not torch.is_grad_enabled():
        return mlp.forward(x.reshape(-1, x.shape[-1]))[0].view(x.shape)
    return _Whole.apply(mlp.wide.token, x, mlp)  # type: ignore[no-untyped-call]
