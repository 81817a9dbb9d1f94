"""Intervals for shares and for differences between two ways to answer the same items."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

DRAWS = 10_000
"""Resamples of a bootstrap."""


def wilson(correct: float, items: int, z: float = 1.959964) -> tuple[float, float]:
    """The 95% Wilson score interval of a share (Wilson 1927)."""
    share = correct / items
    middle = (share + z * z / (2 * items)) / (1 + z * z / items)
    half = z * math.sqrt(share * (1 - share) / items + z * z / (4 * items * items)) / (1 + z * z / items)
    return max(0.0, middle - half), min(1.0, middle + half)


def paired_bootstrap(a: Sequence[float], b: Sequence[float], draws: int = DRAWS, seed: int = 0) -> tuple[float, float]:
    """The 95% percentile interval of mean(a) - mean(b), items drawn with replacement and both measured on the same ones
    (Efron and Tibshirani 1993, section 16). a, b: one number an item, in the same order."""
    difference = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    if difference.ndim != 1 or not len(difference):
        raise ValueError("a paired bootstrap needs two equally long, non-empty lists")
    generator = np.random.default_rng(seed)
    means = np.empty(draws)
    step = max(1, 4_000_000 // len(difference))  # so many draws at a time stay small in memory
    for at in range(0, draws, step):
        picks = generator.integers(0, len(difference), (min(step, draws - at), len(difference)))
        means[at : at + step] = difference[picks].mean(1)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)
