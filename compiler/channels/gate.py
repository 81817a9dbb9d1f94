"""The gate of an edge (`gate = learned`): one trained number between 0 and 1, which training pulls towards closed where
`sparsity` says so (docs/semantics.md, section 7.5).

The number that is trained is `log_alpha` of the hard concrete distribution (Louizos, Welling and Kingma 2018, arXiv
1712.01312). Here stands what needs no torch: the constants, and what a gate is once training is over.
"""

from __future__ import annotations

import math

from masc.compiler.channels.declare import EdgeOption
from masc.compiler.language.values import word

BETA = 2 / 3
"""Temperature."""
GAMMA, ZETA = -0.1, 1.1
"""Ends of the interval that a sigmoid is stretched to, before it is clamped to 0 and 1."""
START = 3.0
"""`log_alpha` of a fresh gate: it is wide open when the graph runs, and for four of five samples in training."""
TENSOR = "gate.log_alpha"
"""In `channels.safetensors` a gate is called after its edge and this: `kv(a, b).gate.log_alpha`."""
SHUT = -4.0
"""`log_alpha` at which nothing pulls a gate any further: closed when the graph runs, and for 11 of 12 samples."""


def _shown(gate: float) -> str:
    return "0, closed" if gate == 0 else f"{gate:.2f}"


GATE = EdgeOption(
    "gate",
    word("none", "learned"),
    "A trained number from 0 to 1: how far the edge is open. `sparsity` pulls it towards closed",
    "none",
    text=lambda gate: "" if gate == "none" else str(gate),
    panel=lambda gate: "" if gate == "none" else "learned" if gate == "learned" else _shown(gate),
    label=lambda gate: "gate learned" if gate == "learned" else f"gate {_shown(gate)}",
)


def gate_of(log_alpha: float) -> float:
    """How far a gate is open when the graph is run or evaluated, from 0 to 1."""
    sigmoid = 1 / (1 + math.exp(-log_alpha)) if log_alpha > -700 else 0.0
    return min(1.0, max(0.0, sigmoid * (ZETA - GAMMA) + GAMMA))
