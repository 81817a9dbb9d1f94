"""Numbers of several sampled answers to each row: their mean, whether any is right, what most of them say."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb
from statistics import NormalDist

from masc.backends.torch.evaluation.statistics import student, wilson

_FEWEST = 4
"""Below so many rows nothing can be said of how they differ."""


def pass_at(right: int, samples: int, k: int) -> float:
    """The chance that at least one of `k` answers is right, out of `samples` (>= k) of which `right` are: the unbiased
    estimator 1 - C(n - c, k) / C(n, k) (Chen et al. 2021, arXiv 2107.03374, section 2.1)."""
    if not 0 <= right <= samples or not 1 <= k <= samples:
        raise ValueError(f"pass@{k} of {samples} samples, {right} of them right")
    return 1 - comb(samples - right, k) / comb(samples, k)


def sizes(samples: int) -> list[int]:
    """The k of which pass@k is told: 1, 2, 4, ... and all samples."""
    powers = [1 << i for i in range(samples.bit_length()) if 1 << i < samples]
    return [*powers, samples]


def majority(answers: Sequence[tuple[str, bool]]) -> float:
    """Whether the answer that most samples of a row give is right (0 or 1). answers: for each sample what of it the
    scorer looks at, and whether it is right. Where several are given equally often, one of them is drawn: the chance
    that it is a right one. An empty answer has no vote, unless all are empty."""
    voting = [answer for answer in answers if answer[0]] or list(answers)
    votes: dict[str, list[bool]] = {}
    for what, right in voting:
        votes.setdefault(what, []).append(right)
    most = max(map(len, votes.values()))
    first = [sum(rights) / len(rights) for rights in votes.values() if len(rights) == most]
    return sum(first) / len(first)


def interval(shares: Sequence[float], samples: int) -> tuple[float, float]:
    """The 95% interval of the mean of `shares`, one a row: of how many of its samples were right, 0 to 1.

    Rows are what was drawn, and a row's samples are alike. So it is Wilson's interval of as many items as independent
    answers would tell as much (Korn and Graubard 1998; Franco et al. 2019, Journal of Survey Statistics and
    Methodology 7): no fewer than rows, no more than answers. With one sample a row it is Wilson's.
    """
    rows = len(shares)
    mean = sum(shares) / rows
    between = sum((share - mean) ** 2 for share in shares) / rows
    count = float(rows)
    if rows >= _FEWEST and 0 < mean < 1:
        most = float(rows * samples)
        freedom = (NormalDist().inv_cdf(0.975) / student(rows - 1)) ** 2
        count = max(count, min(most, rows * mean * (1 - mean) / between * freedom if between else most))
    return wilson(mean * count, count)
