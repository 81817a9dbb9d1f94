"""A recorder for machines without a GPU: to replay work is to do it again, under the adapters under which it was
recorded, and to leave what it makes in the same tensors. What others of its recordings have made is gone by then, and
the memory that they share is gone with the last of them."""

from __future__ import annotations

from contextvars import copy_context
from weakref import ref

import torch
from torch import Tensor

from masc.backends.torch.model.recording import Recorded, Work


class Again:
    """As `recording.Recorder`. replays: how many there have been, of all of them."""

    replays = 0

    def __init__(self) -> None:
        self._made: list[list[Tensor]] = []
        self._recorded: list[ref[Recorded]] = []

    @torch.no_grad()
    def _lose(self, but: list[Tensor]) -> None:
        """Of what shares a GPU's memory nothing is sure to be there after the next replay."""
        for one in (tensor for made in self._made if made is not but for tensor in made):
            if one.is_floating_point():
                one.fill_(float("nan"))

    def record(self, work: Work) -> Recorded:
        known = self._recorded
        assert not known or any(one() is not None for one in known), "the memory of this recorder is gone"
        applied = copy_context()
        made = [None if one is None else one.detach().clone() for one in work()]
        own = [one for one in made if one is not None]
        self._made.append(own)

        def replay() -> None:
            Again.replays += 1
            new = applied.run(work)
            self._lose(but=own)
            for one, other in zip(made, new, strict=True):
                assert (one is None) == (other is None)
                if one is not None and other is not None:
                    one.copy_(other.detach())

        recorded = Recorded(replay, made)
        known.append(ref(recorded))
        return recorded
