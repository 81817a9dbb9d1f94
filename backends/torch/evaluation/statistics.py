"""Intervals for shares and for differences between two ways to answer the same items."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

DRAWS = 10_000
"""Resamples of a bootstrap."""
FEWEST = 6
"""So many items a bootstrap needs: no interval reaches past the largest difference, which of five is too small too
often."""


def wilson(correct: float, items: float, z: float = 1.959964) -> tuple[float, float]:
    """The 95% Wilson score interval of a share (Wilson 1927)."""
    share = correct / items
    middle = (share + z * z / (2 * items)) / (1 + z * z / items)
    half = z * math.sqrt(share * (1 - share) / items + z * z / (4 * items * items)) / (1 + z * z / items)
    return max(0.0, middle - half), min(1.0, middle + half)


def paired_bootstrap(a: Sequence[float], b: Sequence[float], draws: int = DRAWS, seed: int = 0) -> tuple[float, float]:
    """The 95% interval of mean(a) - mean(b), items drawn with replacement and both measured on the same ones. a, b: one
    number an item, in the same order. (NaN, NaN) for fewer than `FEWEST` items, whose own range holds the truth too
    rarely, and where a number is not finite.

    Percentiles (Efron and Tibshirani 1993, section 16), further out where items are few (the expanded percentile
    interval of Hesterberg 2015, The American Statistician 69, 371-386). For skewed or 0/1 differences it still holds
    too little below some twenty items; where all items differ alike it has no width.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if first.shape != second.shape or first.ndim != 1 or not len(first):
        raise ValueError("a paired bootstrap needs two equally long, non-empty lists")
    if len(first) < FEWEST or not np.isfinite([first, second]).all():
        return math.nan, math.nan
    difference = first - second
    generator = np.random.default_rng(seed)
    means = np.empty(draws)
    step = max(1, 4_000_000 // len(difference))  # so many draws at a time stay small in memory
    for at in range(0, draws, step):
        picks = generator.integers(0, len(difference), (min(step, draws - at), len(difference)))
        means[at : at + step] = difference[picks].mean(1)
    outside = NormalDist().cdf(-math.sqrt(len(difference) / (len(difference) - 1)) * student(len(difference) - 1))
    low, high = np.quantile(means, [outside, 1 - outside])
    return float(low), float(high)


def detectable(a: Sequence[float], b: Sequence[float]) -> float:
    """The smallest true difference of the means that so many items, which differ between a and b as much as these do,
    show four times in five by a two-sided test at 5%: (z(0.975) + z(0.8)) sd / sqrt(n). At least `FEWEST` items must
    differ one way for a sign test to see anything. a, b: one number an item, 0 to 1, in the same order; NaN where there
    are fewer."""
    difference = np.asarray(a, dtype=np.float64) - np.asarray(b, dtype=np.float64)
    count = len(difference)
    if count < FEWEST or not np.isfinite(difference).all():
        return math.nan
    both = NormalDist().inv_cdf(0.975) + NormalDist().inv_cdf(0.8)
    return max(both * float(difference.std(ddof=1)) / math.sqrt(count), FEWEST / count)


def student(freedom: int) -> float:
    """The 97.5% quantile of Student's t for at least three degrees of freedom, by the Cornish-Fisher expansion (Hill
    1970)."""
    z, n = NormalDist().inv_cdf(0.975), freedom
    return (
        z
        + (z**3 + z) / (4 * n)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)
    )
