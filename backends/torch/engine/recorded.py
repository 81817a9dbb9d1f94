"""Training on a GPU: the passes of one activation, forward and backward, as one launch each (`model.recording`).

Latent steps follow one another, each a pass over all layers for a single position: what a GPU computes in a few
milliseconds takes the processor a hundred to launch. An activation whose shapes have been seen before is recorded;
prompts and labels are padded to multiples of `WIDTH`, so that there are few shapes. What is computed stays the same.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from masc.backends.torch.engine.labels import unlabelled
from masc.backends.torch.engine.script import Block, Script
from masc.backends.torch.model import adapters
from masc.backends.torch.model.applying import Aliases
from masc.backends.torch.model.attention import Columns
from masc.backends.torch.model.base import Base
from masc.backends.torch.model.loading import is_spread
from masc.backends.torch.model.recording import Recorded, Recorder, attempt
from masc.backends.torch.model.segments import Past

WIDTH = 32
"""Prompts and labels are padded to multiples of it."""
MOST = 4
"""Shapes of one activation that are recorded; others run as they are."""


Body = Callable[[Sequence[Tensor], Sequence[Tensor]], tuple[Tensor, ...]]


@dataclass(frozen=True)
class Work:
    """What an activation computes. body: of its weights and of what it reads, under gradients if they are on; plain:
    the same, as it is computed without a recording. name: the activation's; given: what is read; weights: what it may
    be trained by; same: all that it depends on beside; recompute: nothing is kept for the backward pass."""

    name: str
    body: Body
    plain: Callable[[], tuple[Tensor, ...]]
    given: Sequence[Tensor]
    weights: Sequence[Tensor]
    same: Hashable
    recompute: bool

    @cached_property
    def key(self) -> Hashable:
        shapes = tuple((one.shape, one.dtype, one.requires_grad) for one in self.given)
        return self.name, shapes, len(self.weights), self.same, self.recompute


def recordable(base: Base, script: Script, past: Past | None) -> bool:
    """Whether nothing but numbers differs from one batch to the next: nobody changes the prompt or the latents, no
    gates are half open, the model keeps nothing but keys and values, and it is whole, on one device."""
    given = script.thinking is not None and script.thinking.given is not None
    gated = script.gate is not None or (past is not None and past.columns.open is not None)
    whole = base.recurrent is None and not base.sharded and not is_spread(base.model)
    return whole and script.change is None and not given and not gated


def work_of(
    body: Callable[..., tuple[Tensor, ...]],
    plain: Callable[[], tuple[Tensor, ...]],
    script: Script,
    past: Past | None,
    flat: Sequence[Tensor],
    named: Aliases,
    recompute: bool,
) -> Work:
    """An activation as something to be recorded: all that it reads as tensors. named: the parameters of its adapter.
    What is kept with the recording holds none of them: they would hold the batch's gradient graph."""
    prompt, label, thinking = script.prompt, script.label, script.thinking
    trained, there = thinking is not None and thinking.matrix is not None, past is not None
    whole = past is None or bool(past.columns.whole)
    given = [prompt.inputs, prompt.real, script.start]
    given += [] if label is None else [label.inputs, label.real]
    given += [] if past is None else [past.columns.seen, past.columns.place]
    weights = [tensor for _, tensor in named.values()]
    weights += [thinking.matrix] if thinking is not None and thinking.matrix is not None else []
    modules = {name: module for name, (module, _) in named.items()}
    thinks = None if thinking is None else (thinking.steps, thinking.stop, thinking.align)
    read = prompt.whole, None if label is None else label.whole, whole
    same = tuple(named), thinks, read, script.hidden, script.followed, script.group
    lengths, told = prompt.lengths, None if label is None else label.lengths
    bare = Block(prompt.inputs[:0].detach(), prompt.real[:0], ())
    quiet = replace(script, named=unlabelled, prompt=bare, label=None, start=script.start[:0])

    def recorded(weights: Sequence[Tensor], tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        rest = iter(tensors)
        own = replace(quiet, prompt=Block(next(rest), next(rest), lengths), start=next(rest))
        if told is not None:
            own = replace(own, label=Block(next(rest), next(rest), told))
        if trained and thinking is not None and thinking.through is not None:
            own = replace(own, thinking=replace(thinking, embed=thinking.through(weights[-1])))
        seen = Columns(next(rest), next(rest), whole=whole) if there else None
        aliases = {name: (module, weight) for (name, module), weight in zip(modules.items(), weights, strict=False)}
        return body(own, seen, aliases, *rest)

    return Work(script.name, recorded, plain, [*given, *flat], weights, same, recompute)


@dataclass
class _Memory:
    """What recordings of one activation share (those without a gradient, and where everything is computed again those
    of all activations): of what one of them has computed nothing is sure to be there after the next replay. number: of
    the last forward pass."""

    recorder: Recorder
    number: int = 0


@dataclass
class _Recording:
    """A recorded activation.

    weights: stand in it for the trained ones, whose memory they share: a parameter itself would draw the stream into it
    on which it was first used. given: what it reads; asked: by output that is reached, its gradient; forward, backward:
    what is replayed; live: which outputs need a gradient; back: the gradient of each of the given ones, and found: that
    of each of the weights, where it is reached.
    """

    memory: _Memory
    body: Body
    recompute: bool
    weights: list[Tensor]
    given: list[Tensor]
    asked: dict[int, Tensor]
    forward: Recorded
    backward: Recorded
    live: list[bool]
    back: list[Tensor | None]
    found: list[Tensor | None]

    @property
    def outputs(self) -> list[Tensor]:
        own = [one for one in self.forward.made if one is not None]
        return [one.clone() for one in own] if self.recompute else [one.detach() for one in own]

    @property
    def gradients(self) -> list[Tensor | None]:
        """Of what is given and of the weights. Copies: what is added to a parameter's gradient may become it, and stand
        there when this is replayed again."""
        given = self.back
        if self.recompute:
            given = [None if one is None else one.clone() for one in given]
        there = [one for one in self.found if one is not None]
        copies = iter(torch._foreach_mul(there, 1.0) if there else ())
        return [*given, *(None if one is None else next(copies) for one in self.found)]

    def read(self, tensors: Sequence[Tensor]) -> None:
        with torch.no_grad():
            torch._foreach_copy_(self.given, list(tensors))

    def anew(self, reached: dict[int, Tensor]) -> list[Tensor | None]:
        """The gradients of what is given and of weights, where other outputs are reached than when it was recorded: a
        gradient that is not there is not one of zeros (the optimiser tells them apart)."""
        leaves = [*(one for one in self.given if one.requires_grad), *self.weights]
        with torch.enable_grad():
            outputs = self.body(self.weights, self.given)
            asked = [outputs[i] for i in reached]
            found = iter(torch.autograd.grad(asked, leaves, list(reached.values()), allow_unused=True))
        return [*(next(found) if one.requires_grad else None for one in self.given), *found]


@dataclass(frozen=True)
class _Bare:
    """A recorded activation without a gradient. given: what it reads; weights: what it was made with, and so keeps."""

    weights: Sequence[Tensor]
    given: list[Tensor]
    recorded: Recorded


class _Replay(torch.autograd.Function):
    """What an activation reads, and its weights, to its outputs."""

    @staticmethod
    def forward(ctx: Any, made: _Recording, count: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        """count: of the tensors so many are read, the others are weights."""
        ctx.set_materialize_grads(False)
        made.read(tensors[:count])
        made.forward.replay()
        made.memory.number += 1
        ctx.made, ctx.number = made, made.memory.number
        if made.recompute:
            ctx.save_for_backward(*tensors[:count])
        outputs = tuple(made.outputs)
        ctx.mark_non_differentiable(*(one for one, live in zip(outputs, made.live, strict=True) if not live))
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        made: _Recording = ctx.made
        if made.recompute:
            made.read(ctx.saved_tensors)
        elif made.memory.number != ctx.number:
            raise RuntimeError("an activation was run again before its backward pass")
        reached = {i: gradient for i, gradient in enumerate(gradients) if gradient is not None}
        if reached.keys() != made.asked.keys():
            return None, None, *made.anew(reached)
        torch._foreach_copy_(list(made.asked.values()), list(reached.values()))
        made.backward.replay()
        return None, None, *made.gradients


@dataclass
class Recordings:
    """The activations of one training run that have been recorded. recorder: makes what records them; device: where
    (None: anywhere)."""

    recorder: Callable[[], Recorder]
    device: torch.device | None = None
    _known: dict[Hashable, _Recording] = field(default_factory=dict)
    _reached: dict[Hashable, set[int]] = field(default_factory=dict)
    _memories: dict[str, _Memory] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)
    _bare: dict[Hashable, _Bare | None] = field(default_factory=dict)
    """Without a gradient; None: has been there, and was not recorded."""
    _named: dict[tuple[Base, str], Aliases] = field(default_factory=dict)
    _failed: set[str] = field(default_factory=set)
    """Activations that cannot be."""

    @staticmethod
    def on(device: torch.device) -> Recordings | None:
        """None: nothing is recorded there."""
        return Recordings(partial(Recorder, device), device) if device.type == "cuda" else None

    def parameters(self, base: Base, agent: str | None) -> Aliases:
        """Those of an agent's adapter, which are looked for once."""
        if agent is None:
            return {}
        if (base, agent) not in self._named:
            self._named[base, agent] = adapters.parameters(base.model, agent)
        return self._named[base, agent]

    def run(self, work: Work) -> tuple[Tensor, ...]:
        """What an activation makes, recorded once one of its shapes has been through a backward pass (or been there, if
        no gradient is wanted)."""
        if not torch.is_grad_enabled():
            return self._without(work)
        made = self._known.get(work.key) or self._new(work)
        if made is None:
            return _watched(work.plain(), self._reached[work.key])
        found: tuple[Tensor, ...] = _Replay.apply(made, len(made.given), *work.given, *work.weights)  # type: ignore[no-untyped-call]
        return found

    def _without(self, work: Work) -> tuple[Tensor, ...]:
        """The same where no gradient is wanted: of an agent that learns nothing, of an evaluation."""
        made = self._bare.get(work.key)
        if made is None:
            name = f"{work.name} without a gradient"
            if work.key not in self._bare or work.name in self._failed or self._counts.get(name, 0) == MOST:
                self._bare[work.key] = None
                return work.plain()
            body, weights = work.body, work.weights
            with torch.inference_mode(False), torch.no_grad():
                given = [one.clone() for one in work.given]
                recorded = attempt(self._memory("").recorder, lambda: body(weights, given))
            if recorded is None:
                self._failed.add(work.name)
                return work.plain()
            self._counts[name] = self._counts.get(name, 0) + 1
            made = self._bare[work.key] = _Bare(weights, given, recorded)
        torch._foreach_copy_(made.given, list(work.given))
        made.recorded.replay()
        return tuple(one.clone() for one in made.recorded.made if one is not None)

    def _new(self, work: Work) -> _Recording | None:
        """A recording, if it is time for one."""
        reached = self._reached.setdefault(work.key, set())
        if not reached or work.name in self._failed or self._counts.get(work.name, 0) == MOST:
            return None
        made = self._recorded(work, sorted(reached))
        if made is None:
            self._failed.add(work.name)
            return None
        self._counts[work.name] = self._counts.get(work.name, 0) + 1
        self._known[work.key] = made
        return made

    def _memory(self, name: str) -> _Memory:
        """Of an activation, or of all that is copied out at once (no name)."""
        if name not in self._memories:
            self._memories[name] = _Memory(self.recorder())
        return self._memories[name]

    def _recorded(self, work: Work, reached: Sequence[int]) -> _Recording | None:
        body, recompute = work.body, work.recompute
        memory = self._memory("" if recompute else work.name)
        given = [one.detach().clone().requires_grad_(one.requires_grad) for one in work.given]
        weights = [one.detach().requires_grad_() for one in work.weights]
        leaves = [*(one for one in given if one.requires_grad), *weights]
        now: list[Tensor] = []

        def forward() -> list[Tensor | None]:
            with torch.set_grad_enabled(not recompute):
                now[:] = body(weights, given)
            return [one.detach() for one in now]

        def backward() -> list[Tensor | None]:
            if recompute:
                with torch.enable_grad():
                    now[:] = body(weights, given)
            asked_of = [now[i] for i in reached]
            return list(torch.autograd.grad(asked_of, leaves, list(asked.values()), allow_unused=True))

        if torch.cuda.is_available():
            with suppress(RuntimeError):
                torch.cuda.empty_cache()  # what is recorded cannot wait for memory that others have left
        ahead = attempt(memory.recorder, forward)
        if ahead is None:
            return None
        asked = {i: torch.zeros_like(one) for i in reached if (one := ahead.made[i]) is not None}
        behind = attempt(memory.recorder, backward)
        if behind is None:
            return None
        live = [one.requires_grad for one in now]
        now.clear()
        found = iter(behind.made)
        back = [next(found) if one.requires_grad else None for one in given]
        return _Recording(memory, body, recompute, weights, given, asked, ahead, behind, live, back, list(found))


def _watched(outputs: tuple[Tensor, ...], reached: set[int]) -> tuple[Tensor, ...]:
    """The same, noting which of them a backward pass reaches."""
    for i, one in enumerate(outputs):
        if one.requires_grad:
            one.register_hook(lambda gradient, i=i: reached.add(i))
    return outputs
