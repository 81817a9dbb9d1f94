"""What a channel brings into a prompt, as far as the engine asks: words and vectors that fill placeholders, changes of
the prompt's keys and values, and the trained link of an edge. Each channel has these in a file of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from masc.backends.torch.data.values import Row
from masc.backends.torch.model.base import Base
from masc.backends.torch.model.prompts import Content, Prompt
from masc.backends.torch.model.segments import KeysValues, Segment
from masc.compiler.ir.arrival import Arrival
from masc.compiler.ir.plan import Plan, Turn


class Altering(Protocol):
    """What is done to an edge to find out whether it matters (`probing/probe.py`)."""

    kind: Any
    layers: tuple[int, int] | None

    def crosses(self, turn: Turn, arrival: Arrival) -> bool: ...
    def other(self, batch: int, device: torch.device) -> Tensor: ...
    def vectors(self, vectors: Tensor, name: str, stop: bool) -> Tensor: ...
    def segment(self, segment: Segment, name: str, stop: bool) -> Segment: ...


class Running(Protocol):
    """What a channel sees of a pass over a plan: rows, and by activation what has been written and said so far."""

    plan: Plan
    rows: Sequence[Row]
    indices: list[int]
    segments: dict[str, Segment]
    prompts: dict[str, list[Prompt]]
    texts: dict[str, list[str]]

    @property
    def altering(self) -> Altering | None: ...
    def link(self, turn: Turn, arrival: Arrival) -> nn.Module: ...
    def gate(self, turn: Turn, arrival: Arrival) -> Tensor | None:
        """How far the gate of an edge is open, [B] or [1], from 0 to 1; None: it has none."""

    def base(self, agent: str) -> Base: ...
    @property
    def device(self) -> torch.device: ...


Contents = list[dict[str, Content]]
"""For each row, what fills the placeholders of a prompt."""
Change = Callable[[KeysValues, Tensor], KeysValues]
"""The keys and values of a prompt, whose columns stand at place, long [B, C], to others of the same shapes."""


@dataclass(frozen=True)
class Filled:
    """What one arrival puts into a prompt: how many columns of vectors, and the vectors [B, width, d] (None: there are
    none, or only lengths are measured). gate: how far they are open to whoever looks, [B, width] (None: all are)."""

    arrival: Arrival
    width: int = 0
    vectors: Tensor | None = None
    gate: Tensor | None = None


@dataclass(frozen=True)
class Bringing:
    """The tensor side of one channel.

    fill    puts an arrival into the placeholders; the vectors that it adds are numbered from the last argument on
    change  what it does to the prompt's keys and values; None: nothing
    link    the fresh trained link of an edge between two models, from a seed and the edge's name
    """

    fill: Callable[[Running, Turn, Any, Contents, int], Filled] | None = None
    change: Callable[[Running, Turn, list[Prompt]], Change | None] | None = None
    link: Callable[[Any, Base, Base, int, str], nn.Module] | None = None


Table = Mapping[str, Bringing]
"""By channel."""
