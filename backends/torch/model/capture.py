"""The passes over some slots of a cache, recorded where they are on a GPU (`recording`); elsewhere they just run."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from masc.backends.torch.model.applying import applied
from masc.backends.torch.model.recording import Recorded, Recorder, attempt

WORTH = 4
"""Passes that are to come, at least, for one to be recorded: that takes about as long as two that are not."""
MOST = 64
"""Recorded passes that are kept; those that were not used for longest go first."""

Given = tuple[Tensor, Tensor, Tensor]
"""Inputs, ids [n, 1] or embeddings [n, 1, d]; the column and the place that each row writes next, long [n, 1]."""
Pass = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From what is given to the final hidden states, [n, 1, d]. Columns and places move on by one, in place."""


@dataclass(frozen=True)
class _Captured:
    """A recorded pass, what it reads, and what computed the layers, which has to stay."""

    recorded: Recorded
    given: Given
    by: object


class Captures:
    """The passes over some slots that have been recorded. recorder: makes what records them (None: nothing does)."""

    def __init__(self, recorder: Callable[[], Recorder] | None) -> None:
        self._make = recorder
        self._recorder: Recorder | None = None
        self._known: OrderedDict[Hashable, _Captured] = OrderedDict()
        self._run: set[Hashable] = set()

    @property
    def recording(self) -> bool:
        """Whether passes are recorded here."""
        return self._make is not None

    @staticmethod
    def on(device: torch.device) -> Captures:
        return Captures(partial(Recorder, device) if device.type == "cuda" else None)

    def clear(self) -> None:
        """Tensors have gone elsewhere: nothing serves any more."""
        self._known.clear()
        self._run.clear()
        self._recorder = None  # its memory went with what it recorded

    def run(self, one: Pass, given: Given, key: Hashable, left: int) -> tuple[Tensor, Tensor, Tensor]:
        """A pass: hidden states, and the columns and places of the next one, which may be others' tensors until then.
        key: all that its kernels depend on, but for the numbers given and the adapters that this thread applies; left:
        how many such passes are to come, this one included."""
        by = applied()
        if self._make is None or by.agent is not None:  # PEFT computes an adapter anew in each pass
            return one(*given), *given[1:]
        key = (key, given[0].dtype)
        found = self._known.get(key)
        if found is not None and found.by is not by.projections:  # of adapters as they were
            found = None
            del self._known[key]
            if not self._known:
                self._recorder = None  # its memory went with the last that it recorded
        if found is None:
            if left < WORTH or key not in self._run:
                self._run.add(key)
                return one(*given), *given[1:]
            found = self._captured(one, given, by.projections)
            if found is None:
                return one(*given), *given[1:]
            self._known[key] = found
            if len(self._known) > MOST:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        for own, now in zip(found.given, given, strict=True):
            if own is not now:
                own.copy_(now)
        found.recorded.replay()
        (made,) = found.recorded.made
        assert made is not None
        return made.clone(), *found.given[1:]

    def _captured(self, one: Pass, given: Given, by: object) -> _Captured | None:
        """A pass, recorded; None where it cannot be."""
        assert self._make is not None
        self._recorder = self._recorder or self._make()
        own = given[0].clone(), given[1].clone(), given[2].clone()
        recorded = attempt(self._recorder, lambda: (one(*own),))
        if recorded is None:
            self._make = None
            return None
        return _Captured(recorded, own, by)
