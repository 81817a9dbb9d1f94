"""Slots that nobody uses at the moment, with what was recorded over them: the next call need not record it again."""

from __future__ import annotations

import threading
from typing import Any

from masc.backends.torch.model.base import Base
from masc.backends.torch.model.cache import Slots

MOST = 8
"""Slots that are kept; those that were given back first go first."""


class Spaces:
    """The slots of a program. Threads share it; whoever takes slots has them alone."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free: list[Slots] = []

    def __deepcopy__(self, memo: dict[int, Any]) -> Spaces:
        return Spaces()

    def take(self, base: Base, count: int, by_layer: bool) -> Slots:
        """Slots of a base model, so many at least."""
        with self._lock:
            for slots in self._free:
                if slots.fits(base, count, by_layer):
                    self._free.remove(slots)
                    return slots
        return Slots(base, count, by_layer)

    def give(self, slots: Slots) -> None:
        """Give slots back. Where nothing is recorded their memory is worth more."""
        with self._lock:
            if slots.captures.recording:
                self._free = [*self._free, slots][-MOST:]

    def clear(self) -> None:
        """Give their memory back."""
        with self._lock:
            self._free.clear()
