"""A recorder for machines without a GPU: to replay work is to do it again, and to leave what it makes in the same
tensors."""

from __future__ import annotations

from masc.backends.torch.model.recording import Recorded, Work


class Again:
    """As `recording.Recorder`. replays: how many there have been, of all of them."""

    replays = 0

    def record(self, work: Work) -> Recorded:
        outputs = tuple(work())

        def replay() -> None:
            Again.replays += 1
            for own, new in zip(outputs, work(), strict=True):
                if own is not None and new is not None:
                    own.data.copy_(new)

        return Recorded(replay, outputs)
