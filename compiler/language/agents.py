"""The options of an agent: how it thinks and how it answers. What of it is trained: `adapters.py`."""

from __future__ import annotations

from collections.abc import Mapping

from masc.compiler.language.alignments import ALIGNMENTS
from masc.compiler.language.bounds import MOST, SEED, Bounds, whole
from masc.compiler.language.declare import Option, table
from masc.compiler.language.values import numeric, stops, word

STEPS = numeric(whole(0, 1 << 16))
"""Latent steps: what stands behind `think`."""
ROUNDS = numeric(whole(1, MOST))
"""What stands behind `repeat`; how many edges come of it has a limit of its own."""
_ALIGN = ", ".join(a.help for a in list(ALIGNMENTS.values())[:-1])

THINK: Mapping[str, Option] = table(
    Option(
        "align",
        word(*ALIGNMENTS),
        f"How a hidden state becomes the next input: {_ALIGN}, or {list(ALIGNMENTS.values())[-1].help}",
        next(iter(ALIGNMENTS)),
    ),
    Option(
        "gradient",
        word("full", "stop"),
        "Whether a gradient passes from a latent step to the one before; through keys and values it always does",
        "full",
    ),
)
ANSWER: Mapping[str, Option] = table(
    Option("max_tokens", numeric(whole(1, 1_000_000)), "The most tokens that are decoded", 128),
    Option("temperature", numeric(Bounds(1e-6, 1e6, zero=True)), "0 is greedy decoding, above it samples", 0.0),
    Option("top_p", numeric(Bounds(1e-6, 1.0)), "Samples from the likeliest tokens of this mass", 1.0),
    Option("seed", numeric(SEED), "Of sampling", 0),
    Option("stop", stops, "Texts that end the answer, and are cut off"),
)
DECODING: Mapping[str, Bounds] = {name: option.reads.bounds for name, option in ANSWER.items() if option.reads.bounds}
"""The numbers of an `answer` line."""
