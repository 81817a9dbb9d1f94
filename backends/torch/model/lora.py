"""Plain LoRA as three products for the projections that read the same input (docs/semantics.md, section 1).

PEFT's layers hold the adapters, and its own code computes other kinds of them (DoRA, dropout). The frozen weights of a
group stand one below the other in memory, and so do its A's; its B's are one matrix with blocks of zeros. Of
`y = W x + s B (A x)` autograd keeps the input and A x alone. The gradients of A and B are gathered over all passes of
an activation (`lora_gradients.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from masc.backends.torch.model import products
from masc.backends.torch.model.applying import Bare, Projections, applied
from masc.backends.torch.model.lora_gradients import Adapter, Matrices, Rows

READERS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Projections of one module that read the same input."""


def groups_of(model: nn.Module) -> list[list[LoraLayer]]:
    """The layers of a model that adapters sit on, or might (`Bare`), those that read the same input together."""
    found: list[list[LoraLayer]] = []
    for module in model.modules():
        children: Iterable[tuple[str, Any]] = module.named_children()
        own: dict[str, Any] = {name: child for name, child in children if isinstance(child, (LoraLayer, Bare))}
        clipped = getattr(getattr(module, "config", None), "clip_qkv", None) is not None  # in place, each on its own
        groups = [[own.pop(name) for name in names if name in own] for names in (() if clipped else READERS)]
        found += [group for group in [*groups, *([layer] for layer in own.values())] if group]
    return found


@torch.no_grad()
def put_together(groups: list[list[LoraLayer]]) -> list[list[LoraLayer]]:
    """The same groups, the frozen weights of each one below the other in memory. Where they are must not have been
    noted yet (recorded passes do)."""
    for layers in groups:
        if not all(map(is_plain, layers)):
            continue
        frozen: list[Any] = [layer.get_base_layer() for layer in layers]
        weights: list[Tensor] = [one.weight for one in frozen]
        kinds = {(one.dtype, one.device, one.shape[1], one.is_inference()) for one in weights}
        if len(kinds) == 1 and len(_in_line(weights)) > 1:
            with torch.inference_mode(weights[0].is_inference()):
                parts = torch.cat(weights).split([len(one) for one in weights])
                for one, part in zip(frozen, parts, strict=True):
                    one.weight.data = part
    return groups


def _in_line(weights: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Frozen weights [out, in]: as one matrix where they stand one below the other in memory (it is no copy of them),
    else each."""
    first = weights[0]
    memory, place = first.untyped_storage().data_ptr(), first.data_ptr()
    for one in weights:
        alike = one.dtype == first.dtype and one.is_contiguous() and one.untyped_storage().data_ptr() == memory
        if one.data_ptr() != place or not alike:
            return tuple(weights)
        place += one.numel() * one.element_size()
    return (first if len(weights) == 1 else first.as_strided((sum(map(len, weights)), first.shape[1]), first.stride()),)


def is_plain(layer: LoraLayer) -> bool:
    """Whether what an adapter sits on is a matrix of numbers. Quantised weights are of other modules (bitsandbytes,
    GPTQ), or of tensors of their own (torchao)."""
    own: Any = layer.get_base_layer()
    return type(own) in (nn.Linear, Bare) and type(own.weight.data) is Tensor


def projections(groups: Iterable[Sequence[LoraLayer]], agent: str, weights: Mapping[nn.Module, Tensor]) -> Projections:
    """What computes the layers under an agent's adapter during one activation, from inputs [..., in] to outputs [...,
    out]. Nothing where the adapter is not plain LoRA on linear layers: PEFT computes it. weights: what stands for the
    weight of a module of the adapter."""
    found = ([layer for layer in layers if agent in layer.lora_A] for layers in groups)
    adapted = [layers for layers in found if layers]
    if not all(_plain(layer, agent) for layers in adapted for layer in layers):
        return {}
    members = [[_member(layer, agent, weights) for layer in layers] for layers in adapted]
    adapter = Adapter([Matrices([(one.a, one.b) for one in group], group[0].scale) for group in members])
    parts = zip(adapted, members, _ready(members), strict=True)
    made = [Group(layers, group, ready, adapter, i) for i, (layers, group, ready) in enumerate(parts)]
    return {layer: Output(group, at) for group in made for at, layer in enumerate(group.layers)}


def _plain(layer: LoraLayer, agent: str) -> bool:
    dropped = getattr(layer.lora_dropout[agent], "p", 0)
    return is_plain(layer) and agent not in layer.lora_magnitude_vector and not dropped


@dataclass(frozen=True, eq=False)
class _Member:
    """A projection and what adapts it: W [out, in], its bias [out], A [r, in], B [out, r], s."""

    weight: Tensor
    bias: Tensor | None
    a: Tensor
    b: Tensor
    scale: float

    @property
    def dtype(self) -> torch.dtype:
        """In which the products with A and B are computed. On a CPU the small ones are several times as fast in float32
        as in bfloat16; elsewhere the model's own is."""
        return self.a.dtype if self.weight.device.type == "cpu" else self.weight.dtype


def _member(layer: LoraLayer, agent: str, weights: Mapping[nn.Module, Tensor]) -> _Member:
    frozen: Any = layer.get_base_layer()
    halves: list[Any] = [layer.lora_A[agent], layer.lora_B[agent]]
    a, b = (weights.get(half, half.weight) for half in halves)
    return _Member(frozen.weight, frozen.bias, a, b, layer.scaling[agent])


@dataclass(frozen=True, eq=False)
class _Ready:
    """A and B of a group as they are computed: a [n r, in]; b [sum of out, n r], B of each member in a block of its
    own; the bias of all, [sum of out]."""

    a: Tensor
    b: Tensor
    bias: Tensor | None


@torch.no_grad()
def _ready(groups: Sequence[Sequence[_Member]]) -> list[_Ready]:
    """Each group's, in the dtype in which it is computed: put together once, not in each pass."""
    made, sources, targets = [], [], []
    for group in groups:
        first = group[0]
        if len(group) == 1 and first.a.dtype == first.dtype:
            made.append(_Ready(first.a, first.b, first.bias))
            continue
        rank, sizes = len(first.a), [len(one.b) for one in group]
        a = first.a.new_empty(rank * len(group), first.a.shape[1], dtype=first.dtype)
        b = first.b.new_zeros(sum(sizes), rank * len(group), dtype=first.dtype)
        sources += [half for one in group for half in (one.a, one.b)]
        for i, (above, beside) in enumerate(zip(a.split(rank), b.split(sizes), strict=True)):
            targets += [above, beside[:, i * rank : (i + 1) * rank]]
        made.append(_Ready(a, b, bias_of([one.weight for one in group], [one.bias for one in group])))
    if targets:
        torch._foreach_copy_(targets, sources)
    return made


def bias_of(weights: Sequence[Tensor], biases: Sequence[Tensor | None]) -> Tensor | None:
    """The biases of projections [out, in] side by side, [sum of out]; None: none has one."""
    if all(bias is None for bias in biases):
        return None
    both = zip(weights, biases, strict=True)
    return torch.cat([weight.new_zeros(len(weight)) if bias is None else bias for weight, bias in both])


class Group:
    """The projections of one module that read the same input, during one activation."""

    def __init__(
        self,
        layers: Sequence[LoraLayer],
        members: Sequence[_Member],
        ready: _Ready,
        adapter: Adapter,
        number: int,
    ) -> None:
        """number: of the group, among the adapter's."""
        self.layers: tuple[Any, ...] = tuple(layers)
        self.sizes = [len(one.b) for one in members]
        """How wide each member's output is."""
        self._ready, self._scale, self._frozen = ready, members[0].scale, _in_line([one.weight for one in members])
        self._across = tuple(one.t() for one in self._frozen), ready.a.t(), ready.b.t()
        self._adapter, self._number = adapter, number
        self._made: tuple[Tensor, list[Tensor | None]] | None = None

    @property
    def token(self) -> Tensor:
        """An input of every function that uses `back` (`Adapter.token`)."""
        return self._adapter.token

    @property
    def halves(self) -> tuple[Tensor, ...]:
        """What such a function saves for it, so that autograd sees whether it has been changed."""
        return self._ready.a, self._ready.b

    def forward(self, x: Tensor, onto: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Inputs [N, in] to the outputs of all members side by side, [N, sum of out], and A x of all, [N, n r]. onto:
        what the outputs are added to, of their shape."""
        output = self.below(x, onto)
        return output, self.add(x, output)

    def below(self, x: Tensor, onto: Tensor | None = None) -> Tensor:
        """The same without the adapter: a tensor of its own."""
        bias, (frozen, *_) = self._ready.bias, self._across
        first, second = (bias, None) if onto is None else (onto, bias)
        if len(frozen) > 1:
            output = torch.cat([products.across(x, one) for one in frozen], 1)
            output = output if first is None else output.add_(first)
        else:
            output = products.across(x, frozen[0], first)
        return output if second is None else output.add_(second)

    def add(self, x: Tensor, output: Tensor) -> Tensor:
        """Add to what is below what the adapter adds, in place. Returns A x of all."""
        _, a, b = self._across
        low = x.to(a.dtype) @ a
        if output.dtype == low.dtype:
            output.addmm_(low, b, alpha=self._scale)
        else:
            output.add_(low @ b, alpha=self._scale)
        return low

    def back(
        self,
        x: Tensor,
        low: Tensor,
        gradient: Tensor,
        wanted: Sequence[bool],
        given: Sequence[bool] | None = None,
    ) -> Tensor | None:
        """The gradient of inputs [N, in] of that of the outputs, [N, sum of out]; those of A and B are gathered. low:
        A x; wanted: whether the adapter's gradient is, and whether the inputs'; given: which members' outputs have one
        (None: all), the others' is 0."""
        found = self.back_below(gradient) if wanted[1] else None
        self.back_add(x, low, gradient, wanted[0], given, found)
        return found

    def back_below(self, gradient: Tensor) -> Tensor:
        """The gradient of inputs of what is below, [N, in]."""
        parts = gradient.split(self.sizes, 1) if len(self._frozen) > 1 else (gradient,)
        found = products.back(parts[0], self._frozen[0])
        for part, one in zip(parts[1:], self._frozen[1:], strict=True):
            found = products.back(part, one, found)
        return found

    def back_add(
        self,
        x: Tensor,
        low: Tensor,
        gradient: Tensor,
        wanted: bool,
        given: Sequence[bool] | None,
        onto: Tensor | None,
    ) -> None:
        """What the adapter does backward: its gradient is gathered if it is wanted; that of inputs is added to what is
        there, in place (None: nobody wants it)."""
        a, b = self._ready.a, self._ready.b
        small = gradient.to(b.dtype) @ b
        if wanted:
            self._adapter.add(self._number, Rows(x, low, small, gradient, given or [True] * len(self.sizes)))
        if onto is None:
            return
        if onto.dtype == a.dtype:
            onto.addmm_(small, a, alpha=self._scale)
        else:
            onto.add_(small @ a, alpha=self._scale)

    def output(self, at: int, x: Tensor) -> Tensor:
        """What member number `at` makes of x [..., in]: the first that is asked for computes all."""
        made = self._made  # read once: threads may share a group
        if made is None or made[0] is not x or made[1][at] is None:
            made = self._made = x, list(self._all(x))
        outputs = made[1]
        found, outputs[at] = outputs[at], None
        assert found is not None
        if all(output is None for output in outputs):
            self._made = None
        return found

    def _all(self, x: Tensor) -> tuple[Tensor, ...]:
        if not torch.is_grad_enabled():
            whole, _ = self.forward(x.reshape(-1, x.shape[-1]))
            return _apart(whole, x, self.sizes)
        found: tuple[Tensor, ...] = _Project.apply(self.token, x, self)  # type: ignore[no-untyped-call]
        return found


@dataclass(frozen=True, eq=False)
class Output:
    """What computes a layer that an adapter sits on: one member of a group."""

    group: Group
    at: int

    def __call__(self, x: Tensor) -> Tensor:
        return self.group.output(self.at, x)


def group_of(*layers: nn.Module) -> Group | None:
    """The group that computes just these layers in this thread, in this order. None: none does, or something hooks into
    one of them."""
    found = applied().projections.get(layers[0])
    if not isinstance(found, Output) or found.group.layers != layers:
        return None
    return None if any(layer._forward_hooks or layer._forward_pre_hooks for layer in layers) else found.group


def _apart(whole: Tensor, x: Tensor, sizes: Sequence[int]) -> tuple[Tensor, ...]:
    """Outputs side by side, [N, sum of out], as one for each member, [..., out]."""
    if len(sizes) == 1:  # nobody else has it: whoever is given it may write into it
        own: Tensor = torch.ops.aten._unsafe_view(whole, [*x.shape[:-1], whole.shape[-1]])
        return (own,)
    found: tuple[Tensor, ...] = whole.view(*x.shape[:-1], -1).split(list(sizes), -1)
    return found


class _Project(torch.autograd.Function):
    """An input [..., in] through the projections of a group, [..., out] each."""

    @staticmethod
    def forward(ctx: Any, _: Tensor, x: Tensor, group: Group) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        whole, low = group.forward(x.reshape(-1, x.shape[-1]))
        ctx.save_for_backward(x, low, *group.halves)
        ctx.group = group
        return _apart(whole, x, group.sizes)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        group: Group = ctx.group
        x, low, *_ = ctx.saved_tensors
        given = [each is not None for each in gradients]
        if not any(given):
            return None, None, None
        parts = [
            x.new_zeros(*x.shape[:-1], size) if each is None else each
            for each, size in zip(gradients, group.sizes, strict=True)
        ]
        whole = (parts[0] if len(parts) == 1 else torch.cat(parts, -1)).reshape(low.shape[0], -1)
        found = group.back(x.reshape(len(whole), -1), low, whole, ctx.needs_input_grad, given)
        return None, None if found is None else found.view(x.shape), None
