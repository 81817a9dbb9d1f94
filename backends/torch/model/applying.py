"""Which adapter a pass runs under, thread by thread (docs/semantics.md, section 1).

PEFT's `set_adapter` would take `requires_grad` from every other adapter and silently drop its gradients, and which
adapter is active is state of PEFT's layers, which threads share. So here the layers ask the thread that runs them which
adapter to apply; nothing about a layer changes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import cache
from types import MappingProxyType
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.dora import DoraLinearLayer
from peft.tuners.lora.variants import DoraLinearVariant
from torch import Tensor, nn

Aliases = Mapping[str, tuple[nn.Module, Tensor]]
"""By parameter name: the module of an adapter that holds it, and a tensor that stands for its weight."""


Projections = Mapping[nn.Module, Callable[[Tensor], Tensor]]
"""By layer that adapters sit on: from its inputs [..., in] to its outputs [..., out], adapter included."""


@dataclass(frozen=True)
class Applied:
    """What passes run under. agent: whose adapter (None: nobody's); weights: by module of the adapter, what stands for
    its weight; still: no dropout; noise: what dropout draws from (None: torch's own generator); projections: by layer
    that adapters sit on, what computes it in PEFT's place."""

    agent: str | None = None
    weights: Mapping[nn.Module, Tensor] = field(default_factory=dict)
    still: bool = False
    noise: torch.Generator | None = None
    projections: Projections = field(default_factory=dict)


_NOTHING = Applied()
_APPLIED: ContextVar[Applied] = ContextVar("masc_applied", default=_NOTHING)
"""Of each thread its own: any number of them may run one model at once, each under another agent's adapter."""


@contextmanager
def using(
    agent: str | None,
    aliases: Aliases | None = None,
    noise: torch.Generator | None = None,
    projections: Projections | None = None,
) -> Iterator[None]:
    """Within it, this thread applies one agent's adapter (None: no adapter), by way of aliases if there are any.
    projections: what computes it in PEFT's place."""
    weights = dict((aliases or {}).values())
    with _applying(Applied(agent, weights, _APPLIED.get().still, noise, projections or {})):
        yield


@contextmanager
def projecting(projections: Projections) -> Iterator[None]:
    """Within it, this thread computes these layers so, without gradients for adapters; others as the base has them."""
    with _applying(Applied(still=True, projections=projections)):
        yield


@contextmanager
def still(quiet: bool = True) -> Iterator[None]:
    """Within it, nothing is dropped in this thread, whatever mode the modules are in."""
    with _applying(replace(_APPLIED.get(), still=quiet)):
        yield


def applied() -> Applied:
    """What this thread's passes run under."""
    return _APPLIED.get()


def is_still() -> bool:
    return _APPLIED.get().still


@contextmanager
def _applying(applied: Applied) -> Iterator[None]:
    token = _APPLIED.set(applied)
    try:
        yield
    finally:
        _APPLIED.reset(token)


class Bare(nn.Linear):
    """A projection without adapters, which asks the thread what computes it as PEFT's layers do."""

    lora_A: Mapping[str, Any] = MappingProxyType({})  # noqa: N815 - as PEFT calls it

    def get_base_layer(self) -> Bare:
        return self

    def forward(self, x: Tensor) -> Tensor:
        instead = _APPLIED.get().projections.get(self)
        return super().forward(x) if instead is None else instead(x)


def make_asking(blocks: nn.Module, names: Collection[str]) -> None:
    """Let linear maps of these names ask the thread, where no adapter sits on them."""
    for name, module in blocks.named_modules():
        if type(module) is nn.Linear and name.rpartition(".")[2] in names and not hasattr(module, "_hf_hook"):
            module.__class__ = Bare


class _Projection(nn.Linear):
    """One half of an adapter, which may run with another tensor in its weight's place."""

    def forward(self, x: Tensor) -> Tensor:
        weight = _APPLIED.get().weights.get(self, self.weight)
        return nn.functional.linear(x, weight, self.bias)


class _Magnitude(DoraLinearLayer):
    """The lengths of DoRA, which may be another tensor's."""

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        own = self._parameters["weight"]
        assert own is not None
        return _APPLIED.get().weights.get(self, own)


class _Dora(DoraLinearVariant):
    """DoRA as PEFT computes it. Whether something is dropped PEFT asks of the layer, which is never in training here:
    the adapter's own dropout knows."""

    @staticmethod
    def forward(module: LoraLayer, active_adapter: str, x: Tensor, result: Tensor, **_: Any) -> Tensor:
        dropped = module.lora_dropout[active_adapter](x)
        added: Tensor = module.lora_magnitude_vector[active_adapter](
            dropped,
            lora_A=module.lora_A[active_adapter],
            lora_B=module.lora_B[active_adapter],
            scaling=module.scaling[active_adapter],
            base_layer=module.get_base_layer(),
            base_result=result if dropped is x else None,  # PEFT drops from the base's part, too
            adapter_name=active_adapter,
        )
        return result + added


class _Dropout(nn.Dropout):
    """Dropout that a thread can switch off for itself, and whose draws can be repeated: when an activation is computed
    again in the backward pass, other threads may have drawn from torch's generator since."""

    def forward(self, x: Tensor) -> Tensor:
        applied = _APPLIED.get()
        if applied.still or not self.training or not self.p:
            return x
        if applied.noise is None:
            return super().forward(x)
        kept = torch.empty_like(x).bernoulli_(1 - self.p, generator=applied.noise)
        return x * (kept / (1 - self.p))


@cache
def _contextual(kind: type[LoraLayer]) -> type[LoraLayer]:
    """A class of PEFT's layers that applies what this thread applies, where PEFT's own keeps it in the layer."""

    def active_adapters(self: LoraLayer) -> list[str]:
        agent = _APPLIED.get().agent
        return [] if agent is None else [agent]

    whole: Any = kind

    def forward(self: Any, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        instead = _APPLIED.get().projections.get(self)
        return whole.forward(self, x, *args, **kwargs) if instead is None else instead(x)

    def set_adapter(self: LoraLayer, *_: Any, **__: Any) -> None:
        """Which one is applied is the thread's matter, and all keep their gradients."""

    body = {
        "active_adapters": property(active_adapters),
        "forward": forward,
        "set_adapter": set_adapter,
        "contextual": True,
    }
    return type(kind.__name__, (kind,), body)


def make_contextual(layer: LoraLayer, agent: str) -> None:
    """Let a layer, and the adapter that was just put on it, look up what this thread applies."""
    if not getattr(type(layer), "contextual", False):
        layer.__class__ = _contextual(type(layer))
    for halves in (layer.lora_A, layer.lora_B):
        halves[agent].__class__ = _Projection
    dropout = layer.lora_dropout[agent]
    if isinstance(dropout, nn.Dropout):
        dropout.__class__ = _Dropout
    if agent in layer.lora_magnitude_vector:
        layer.lora_magnitude_vector[agent].__class__ = _Magnitude
        layer.lora_variant[agent] = _Dora()
