"""What comes to an agent otherwise than as keys and values to look at: text, vectors in its prompt, fused caches
(docs/semantics.md, section 7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial, reduce

import torch
from torch import Tensor

from masc.backends.torch.channels import fuse, hidden, text
from masc.backends.torch.channels.bringing import Change, Contents, Filled, Running, Table
from masc.backends.torch.model.prompts import Prompt, value
from masc.backends.torch.model.segments import KeysValues
from masc.compiler.channels import ARRIVALS
from masc.compiler.ir.plan import Slot, Turn

_MODULES = {module.__name__.rpartition(".")[2]: module.BRINGING for module in (text, hidden, fuse)}
BRINGING: Table = {kind.kind: _MODULES[kind.kind] for kind in ARRIVALS.values()}
"""Every channel that brings something into a prompt."""


@dataclass(frozen=True)
class Arriving:
    """What fills an agent's placeholders, for each row, and the vectors [B, N, d] that are spliced into its prompt
    (None: there are none; while only lengths are measured there are none either). parts: what each arrival gave."""

    contents: Contents
    parts: tuple[Filled, ...]

    @property
    def vectors(self) -> Tensor | None:
        found = [part.vectors for part in self.parts if part.vectors is not None]
        return torch.cat(found, 1) if found else None

    @property
    def gate(self) -> Tensor | None:
        """How far the vectors are open to whoever looks, [B, N]; None: all are."""
        found = [part for part in self.parts if part.vectors is not None]
        known = next((part.gate for part in found if part.gate is not None), None)
        if known is None:
            return None
        whole = [known.new_ones(len(known), part.width) if part.gate is None else part.gate for part in found]
        return torch.cat(whole, 1)


def arriving(running: Running, turn: Turn) -> Arriving:
    """What fills an agent's prompt now: inputs of the rows, and what others send."""
    plan = running.plan
    spec = plan.agent(turn.agent)
    inputs = [p.name for p in (*(spec.system or ()), *spec.user) if isinstance(p, Slot) and p.name in plan.inputs]
    contents: Contents = [
        {name: value(row, name, i) for name in inputs} for row, i in zip(running.rows, running.indices, strict=True)
    ]
    parts: list[Filled] = []
    for arrival in turn.arrives:
        if (fill := BRINGING[arrival.kind].fill) is not None:
            parts.append(fill(running, turn, arrival, contents, sum(part.width for part in parts)))
    return Arriving(contents, tuple(parts))


def change_of(running: Running, turn: Turn, prompts: list[Prompt]) -> Change | None:
    """What others do to the keys and values of an agent's prompt, one channel after the other."""
    made = [bringing.change(running, turn, prompts) for bringing in BRINGING.values() if bringing.change is not None]
    changes = [change for change in made if change is not None]
    return partial(_all, changes) if changes else None


def _all(changes: Sequence[Change], layers: KeysValues, place: Tensor) -> KeysValues:
    return reduce(lambda now, change: change(now, place), changes, layers)
