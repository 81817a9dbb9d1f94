"""The beginning that prompts of many rows share (system text, role): it is read once for all of them.

Only of turns that see nothing of others: their prompts begin at position 0 of an empty cache, so that the keys and
values of equal beginnings are equal.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from masc.backends.torch.model.layout import Packed
from masc.backends.torch.model.prompts import Prompt

WORTH = 256
"""So many positions must be saved for one more pass of the model to be worth it."""


@dataclass(frozen=True)
class Beginning:
    """ids: its tokens; kv: their keys and values, by shape [n, H, C, D]; hidden: final hidden states, [C, d]."""

    ids: tuple[int, ...]
    kv: Packed
    hidden: Tensor

    def starts(self, prompt: Prompt) -> bool:
        """Whether a prompt begins so, and goes on."""
        return len(prompt.ids) > len(self.ids) and prompt.ids[: len(self.ids)] == self.ids


class Beginnings:
    """What the prompts of one turn have in common, found out from the first few of them. rows: how many there will
    be."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.known: Beginning | None = None
        self._first: tuple[int, ...] | None = None
        self._looked = False

    def of(self, prompts: Sequence[Prompt], read: Callable[[Sequence[int]], Beginning]) -> Beginning | None:
        """What these prompts may begin with. read: reads the beginning, the first time that there are two prompts."""
        seen = [prompt.ids for prompt in prompts]
        if not self._looked and self._first is not None:
            seen.append(self._first)
        self._first = seen[0]
        if not self._looked and len(seen) > 1:
            self._looked = True
            shared = _shared(seen)
            if len(shared) * (self.rows - 1) >= WORTH:
                self.known = read(shared)
        return self.known


def _shared(rows: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """What all rows begin with; a token of each is left."""
    differ = (i for i, tokens in enumerate(zip(*rows, strict=False)) if len(set(tokens)) > 1)
    return rows[0][: next(differ, min(map(len, rows)) - 1)]
