"""Devices that a cost is held against, and floors of time that follow from what they can do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from masc.dsl.diagnostics import did_you_mean

_MIB, _T = 1 << 20, 1e12
RESERVED = 1 << 30
"""Bytes that a GPU's driver and libraries take before anything is computed: about half a GiB to one."""


@dataclass(frozen=True)
class Card:
    """A device. memory: bytes in it; bandwidth: bytes a second (0: not said); rate: dense bfloat16 FLOP/s (0: not
    said)."""

    name: str
    memory: float
    bandwidth: float = 0
    rate: float = 0

    @property
    def room(self) -> float:
        """Bytes for a program."""
        return self.memory - RESERVED


# Memory as `nvidia-smi` tells it. Bandwidth and rate of H100 and H200: measured, copying and an 8192-cubed product.
# The others: NVIDIA's data sheets (dense, without sparsity): L4, A10, L40S, A100; of GeForce cards the white papers of
# their chips (GA102, AD102), bfloat16 with sums in float32.
CARDS: Mapping[str, Card] = {
    card.name: card
    for card in (
        Card("A10", 23028 * _MIB, 0.6 * _T, 125 * _T),
        Card("L4", 23034 * _MIB, 0.3 * _T, 121 * _T),
        Card("RTX-4090", 24564 * _MIB, 1.008 * _T, 165 * _T),
        Card("RTX-3090", 24576 * _MIB, 0.936 * _T, 71 * _T),
        Card("A100-40GB", 40960 * _MIB, 1.555 * _T, 312 * _T),
        Card("L40S", 46068 * _MIB, 0.864 * _T, 362 * _T),
        Card("H100", 81559 * _MIB, 3.0 * _T, 790 * _T),
        Card("A100-80GB", 81920 * _MIB, 2.039 * _T, 312 * _T),
        Card("H200", 143771 * _MIB, 4.3 * _T, 790 * _T),
    )
}
"""By name, the smallest first."""

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(GB|GiB|MB|MiB|TB|TiB)\Z", re.IGNORECASE)
_UNITS = {"mb": 1e6, "gb": 1e9, "tb": 1e12, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40}


def card_of(text: str) -> Card:
    """The card of a name, or a device of so much memory (`24GB`). ValueError where it is neither."""
    for name, card in CARDS.items():
        if name.lower() == text.strip().lower().replace(" ", "-"):
            return card
    if found := _SIZE.match(text.strip()):
        memory = float(found[1]) * _UNITS[found[2].lower()]
        if memory <= RESERVED:
            raise ValueError(f"`{text}` is less than a GPU's own libraries take (1.1 GB)")
        return Card(text.strip(), memory)
    known = ", ".join(CARDS)
    hint = did_you_mean(text, [*CARDS, *(name.lower() for name in CARDS)])
    raise ValueError(f"unknown device `{text}`: {hint or f'known are {known}; or a size such as 24GB'}")


@dataclass(frozen=True)
class Fit:
    """A plan on a device. rows: that run together at most (0: not even one); trained: that are trained on together at
    most (None: nothing is trained). token: seconds that one more token of a batch takes at least, all weights and
    caches read once; step: seconds that a training step takes at least (None: not said of the device)."""

    card: Card
    runs: bool
    rows: int
    trains: bool | None
    trained: int | None
    token: float | None
    step: float | None
