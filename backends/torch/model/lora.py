"""Plain LoRA as one autograd function for the projections that read the same input (docs/semantics.md, section 1).

PEFT's layers hold the adapters, and its own code computes other kinds of them (DoRA, dropout). Of `y = W x + s B (A x)`
autograd keeps here the input and A x alone. The gradients of A and B are gathered over all passes of an activation and
handed on once, in the adapter's own float32: each latent step would add a small product to each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

READERS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Projections of one module that read the same input."""
WIDE = 64
"""A pass over so many positions adds its part to the gradients at once: kept, it would cost memory."""


def groups_of(model: nn.Module) -> list[list[LoraLayer]]:
    """The layers of a model that adapters sit on, those that read the same input together."""
    found: list[list[LoraLayer]] = []
    for module in model.modules():
        own: dict[str, LoraLayer] = {n: child for n, child in module.named_children() if isinstance(child, LoraLayer)}
        groups = [[own.pop(name) for name in names if name in own] for names in READERS]
        found += [group for group in [*groups, *([layer] for layer in own.values())] if group]
    return found


def projections(
    groups: Iterable[Sequence[LoraLayer]], agent: str, weights: Mapping[nn.Module, Tensor]
) -> dict[nn.Module, Callable[[Tensor], Tensor]]:
    """What computes the layers under an agent's adapter during one activation, from inputs [..., in] to outputs [...,
    out]. Nothing where the adapter is not plain LoRA on linear layers: PEFT computes it. weights: what stands for the
    weight of a module of the adapter."""
    found = ([layer for layer in layers if agent in layer.lora_A] for layers in groups)
    adapted = [layers for layers in found if layers]
    if not all(_plain(layer, agent) for layers in adapted for layer in layers):
        return {}
    members = [[_member(layer, agent, weights) for layer in layers] for layers in adapted]
    adapter = _Adapter(members)
    made = [
        _Group(i, group, ready, adapter) for i, (group, ready) in enumerate(zip(members, _ready(members), strict=True))
    ]
    pairs = zip(adapted, made, strict=True)
    return {layer: partial(group, at) for layers, group in pairs for at, layer in enumerate(layers)}  # type: ignore[misc]


def _plain(layer: LoraLayer, agent: str) -> bool:
    dropped = getattr(layer.lora_dropout[agent], "p", 0)
    return is_plain(layer) and agent not in layer.lora_magnitude_vector and not dropped


def is_plain(layer: LoraLayer) -> bool:
    """Whether what an adapter sits on is a matrix of numbers. Quantised weights are of other modules (bitsandbytes,
    GPTQ), or of tensors of their own (torchao)."""
    own: Any = layer.get_base_layer()
    return type(own) is nn.Linear and type(own.weight.data) is Tensor


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


@dataclass(frozen=True)
class _Ready:
    """What computes the members of a group: A of all of them, [n r, in], and B of each; across: the same transposed,
    and the frozen weights."""

    a: Tensor
    b: tuple[Tensor, ...]
    a_across: Tensor
    b_across: tuple[Tensor, ...]
    frozen: tuple[Tensor, ...]


@torch.no_grad()
def _ready(groups: Sequence[Sequence[_Member]]) -> list[_Ready]:
    """Each group's, in the dtype in which it is computed: cast once, not in each pass."""
    members = [member for group in groups for member in group]
    halves = [half for member in members for half in (member.a, member.b)]
    dtypes = [member.dtype for member in members for _ in "ab"]
    if any(half.dtype != dtype for half, dtype in zip(halves, dtypes, strict=True)):
        copies = [torch.empty_like(half, dtype=dtype) for half, dtype in zip(halves, dtypes, strict=True)]
        torch._foreach_copy_(copies, halves)
        halves = copies
    pairs = zip(halves[::2], halves[1::2], strict=True)
    made = []
    for group in groups:
        first, b = zip(*(next(pairs) for _ in group), strict=True)
        a = first[0] if len(first) == 1 else torch.cat(first)
        made.append(_Ready(a, b, a.t(), tuple(one.t() for one in b), tuple(member.weight.t() for member in group)))
    return made


class _Adapter:
    """An adapter as one activation applies it.

    token: an empty tensor that stands for its parameters in the gradient graph. Each pass takes it as an input, so that
    autograd asks for the gradients of A and B when all passes are through.
    """

    def __init__(self, groups: Sequence[Sequence[_Member]]) -> None:
        self._halves = [half for group in groups for member in group for half in (member.a, member.b)]
        self.gradients = _Gradients(groups)
        self._token: Tensor | None = None

    @property
    def token(self) -> Tensor:
        if self._token is None:
            self._token = _Parameters.apply(self.gradients, *self._halves)  # type: ignore[no-untyped-call]
        return self._token


@dataclass(frozen=True)
class _Rows:
    """Of one backward pass through a group: its input, A x of all members, [N, n r], the gradient of that without s,
    and the gradient of each output, [N, out] (None: it has none)."""

    x: Tensor
    low: Tensor
    small: Tensor
    outputs: Sequence[Tensor | None]


class _Sums:
    """The gradients of the members of a group so far, without s: of A of all of them, [n r, in], and of B of each."""

    def __init__(self, count: int) -> None:
        self.a: Tensor | None = None
        self.b: list[Tensor | None] = [None] * count
        self._rows: list[_Rows] = []

    def add(self, rows: _Rows, dtype: torch.dtype) -> None:
        self._rows.append(rows)
        if len(rows.low) >= WIDE:
            self.close(dtype)

    def close(self, dtype: torch.dtype) -> None:
        """Add what is kept, as one product for each matrix."""
        rows, self._rows = self._rows, []
        if not rows:
            return
        small, low = _joined([one.small for one in rows]), _joined([one.low for one in rows])
        x = _joined([one.x.reshape(-1, one.x.shape[-1]) for one in rows]).to(small.dtype)
        self.a = _plus(self.a, (small.t() @ x).to(dtype))
        for i in range(len(self.b)):
            found = [(one.low, one.outputs[i]) for one in rows]
            outputs = [output for _, output in found if output is not None]
            if not outputs:
                continue
            own = low if len(outputs) == len(rows) else _joined([one for one, output in found if output is not None])
            part = own if len(self.b) == 1 else own.tensor_split(len(self.b), 1)[i]
            self.b[i] = _plus(self.b[i], (_joined(outputs).to(part.dtype).t() @ part).to(dtype))


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def _plus(known: Tensor | None, new: Tensor) -> Tensor:
    return new if known is None else known.add_(new)


class _Gradients:
    """The gradients of an adapter's matrices, as far as the backward passes that are under way have come."""

    def __init__(self, groups: Sequence[Sequence[_Member]]) -> None:
        self._groups = groups
        self._sums: dict[int, dict[int, _Sums]] = {}
        """By backward pass, for one that is asked for other gradients never takes what it has added; then by group."""

    def add(self, group: int, rows: _Rows) -> None:
        own = self._sums.setdefault(torch._C._current_graph_task_id(), {})
        members = self._groups[group]
        own.setdefault(group, _Sums(len(members))).add(rows, members[0].a.dtype)

    def taken(self) -> Iterable[Tensor | None]:
        """The gradients of A and B of each member in turn, None where nothing was added."""
        found = self._sums.pop(torch._C._current_graph_task_id(), {})
        self._sums.clear()
        for group, members in enumerate(self._groups):
            sums = found.get(group, _Sums(len(members)))
            sums.close(members[0].a.dtype)
            whole = (
                [None] * len(members) if sums.a is None else sums.a.mul_(members[0].scale).tensor_split(len(members))
            )
            for a, b in zip(whole, sums.b, strict=True):
                yield None if b is None else a
                yield None if b is None else b.mul_(members[0].scale)


class _Parameters(torch.autograd.Function):
    """All matrices of an adapter to its token; back, what has been gathered."""

    @staticmethod
    def forward(ctx: Any, gradients: _Gradients, *halves: Tensor) -> Tensor:
        ctx.set_materialize_grads(False)
        ctx.gradients = gradients
        return halves[0].new_empty(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *_: Tensor | None) -> tuple[Tensor | None, ...]:
        return None, *ctx.gradients.taken()


class _Project(torch.autograd.Function):
    """An input [..., in] through the projections of a group, [..., out] each."""

    @staticmethod
    def forward(
        ctx: Any,
        _: Tensor,
        x: Tensor,
        members: Sequence[_Member],
        ready: _Ready,
        add: Callable[[_Rows], None],
    ) -> tuple[Tensor, ...]:
        ctx.set_materialize_grads(False)
        outputs, low = _projected(x, members, ready)
        ctx.save_for_backward(x, low, ready.a, *ready.b)
        ctx.members, ctx.add = members, add
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        members: Sequence[_Member] = ctx.members
        x, low, a, *halves = ctx.saved_tensors
        outputs = [None if each is None else each.reshape(-1, each.shape[-1]) for each in gradients]
        small = _small(outputs, halves, low)
        if ctx.needs_input_grad[0]:
            ctx.add(_Rows(x, low, small, outputs))
        back: Tensor | None = None
        for member, output in zip(members, outputs, strict=True):
            if output is not None and ctx.needs_input_grad[1]:
                back = output @ member.weight if back is None else back.addmm_(output, member.weight)
        if back is None:
            return None, None, None, None, None
        scale = members[0].scale
        back = back.addmm_(small, a, alpha=scale) if back.dtype == a.dtype else back.add_(small @ a, alpha=scale)
        return None, back.view(x.shape), None, None, None


def _small(outputs: Sequence[Tensor | None], halves: Sequence[Tensor], like: Tensor) -> Tensor:
    """The gradient of A x of all members without s, [N, n r], of that of their outputs and their B."""
    if len(outputs) == 1 and outputs[0] is not None:
        return outputs[0].to(like.dtype) @ halves[0]
    small = torch.zeros_like(like) if any(output is None for output in outputs) else torch.empty_like(like)
    for output, b, part in zip(outputs, halves, small.split(small.shape[1] // len(halves), 1), strict=True):
        if output is not None:
            torch.mm(output.to(like.dtype), b, out=part)
    return small


def _projected(x: Tensor, members: Sequence[_Member], ready: _Ready) -> tuple[tuple[Tensor, ...], Tensor]:
    """The outputs [..., out] of the projections of a group, and A x of all of them, [N, n r]."""
    flat = x.reshape(-1, x.shape[-1])
    low = flat.to(ready.a.dtype) @ ready.a_across
    lows = low.split(low.shape[1] // len(members), 1) if len(members) > 1 else (low,)
    outputs = []
    for member, own, b, frozen in zip(members, lows, ready.b_across, ready.frozen, strict=True):
        output = flat @ frozen if member.bias is None else torch.addmm(member.bias, flat, frozen)
        if output.dtype == low.dtype:
            output.addmm_(own, b, alpha=member.scale)
        else:
            output.add_(own @ b, alpha=member.scale)
        outputs.append(output.view(*x.shape[:-1], -1))
    return tuple(outputs), low


class _Group:
    """The projections of one module that read the same input, during one activation: the first that is called computes
    all of them."""

    def __init__(self, number: int, members: Sequence[_Member], ready: _Ready, adapter: _Adapter) -> None:
        self._members, self._ready, self._adapter = members, ready, adapter
        self._add = partial(adapter.gradients.add, number)
        self._made: tuple[Tensor, list[Tensor | None]] | None = None

    def __call__(self, at: int, x: Tensor) -> Tensor:
        """What member number `at` makes of x."""
        if self._made is None or self._made[0] is not x or self._made[1][at] is None:
            self._made = x, list(self._all(x))
        outputs = self._made[1]
        found, outputs[at] = outputs[at], None
        assert found is not None
        if all(output is None for output in outputs):
            self._made = None
        return found

    def _all(self, x: Tensor) -> tuple[Tensor, ...]:
        if not torch.is_grad_enabled():
            return _projected(x, self._members, self._ready)[0]
        found: tuple[Tensor, ...] = _Project.apply(  # type: ignore[no-untyped-call]
            self._adapter.token, x, self._members, self._ready, self._add
        )
        return found
