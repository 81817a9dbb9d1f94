"""Standing between a receiver and the segments that it looks at: to see which gradients pass, or to let none pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from graph_oracle import PARTS, Atom, Oracle
from torch import Tensor

from masc.backends.torch.engine import walk
from masc.backends.torch.model.segments import Opening, Segment
from masc.backends.torch.program import Program
from masc.compiler.ir.plan import Turn


def columns(segment: Segment, part: str, fused: bool) -> Tensor:
    """Which columns of a segment are a part, bool [B, C]."""
    place = torch.arange(segment.real.shape[1])
    thoughts = segment.prompt + segment.latents
    if part in ("latent", "label"):
        inside = place >= thoughts if part == "label" else (place >= segment.prompt) & (place < thoughts)
        return segment.real & inside
    prompt = segment.real & (place < segment.prompt)
    last = prompt & (prompt.cumsum(1) == prompt.sum(1, keepdim=True))
    if fused:  # the last token stands in the last column
        last = prompt & (place == segment.prompt - 1)
    return last if part == "last" else prompt & ~last


Hook = Callable[[str, str, int, Tensor, Segment], Tensor]


@contextmanager
def _looking(program: Program, hook: Hook) -> Iterator[None]:
    """Within it, whoever looks at a segment looks at what `hook` (receiver, segment's name, layer, tensor, segment)
    makes of its keys and values."""
    own, activating = walk.look, walk.Walk._activate
    receiver = ""

    def activate(self: Any, turn: Turn, *rest: Any) -> None:
        nonlocal receiver
        receiver = turn.activation
        activating(self, turn, *rest)

    def look(views: Any, segments: Mapping[str, Segment], *rest: Any) -> Any:
        changed = {
            name: replace(
                segment,
                layers=tuple(
                    (hook(receiver, name, i, k, segment), hook(receiver, name, i, v, segment))
                    for i, (k, v) in enumerate(segment.layers)
                ),
            )
            for name, segment in segments.items()
        }
        return own(views, changed, *rest)

    walk.look, walk.Walk._activate = look, activate  # type: ignore[assignment,method-assign]
    try:
        yield
    finally:
        walk.look, walk.Walk._activate = own, activating  # type: ignore[method-assign]


@contextmanager
def watched(program: Program, crossed: dict[tuple[str, Atom], float]) -> Iterator[None]:
    """Within it the size of every gradient that goes from a receiver to an atom is noted."""
    fused = {turn.activation for turn in program.plan.turns if any(arrival.aligns for arrival in turn.arrives)}

    def hook(receiver: str, name: str, layer: int, tensor: Tensor, segment: Segment) -> Tensor:
        if not torch.is_grad_enabled():
            return tensor
        alias = tensor.view_as(tensor) if tensor.requires_grad else tensor.detach().requires_grad_()

        def note(gradient: Tensor) -> None:
            sizes = gradient.abs().amax((1, 3))
            for part in PARTS:
                where = receiver, (name, part, layer)
                held = sizes[columns(segment, part, name in fused)]
                crossed[where] = max(crossed.get(where, 0.0), float(held.max()) if held.numel() else 0.0)

        alias.register_hook(note)
        return alias

    with _looking(program, hook):
        yield


@contextmanager
def held(program: Program, oracle: Oracle, opening: Opening | None) -> Iterator[None]:
    """Within it, what the edges stop is constant."""
    fused = {turn.activation for turn in program.plan.turns if any(arrival.aligns for arrival in turn.arrives)}

    def hook(receiver: str, name: str, layer: int, tensor: Tensor, segment: Segment) -> Tensor:
        full = torch.zeros_like(segment.real)
        for part in PARTS:
            for b in range(len(full)):

                def exists(until: int, b: int = b) -> bool:
                    return opening is not None and opening.step < until and bool(opening.rows(until)[b])

                full[b] |= columns(segment, part, name in fused)[b] & oracle.full(receiver, (name, part, layer), exists)
        return torch.where(full[:, None, :, None], tensor, tensor.detach())

    with _looking(program, hook):
        yield
