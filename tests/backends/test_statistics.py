"""Intervals hold what they promise, also of few items."""

from __future__ import annotations

import math

import numpy as np
import pytest

from masc.backends.torch.evaluation.statistics import paired_bootstrap, student, wilson


def test_wilson_is_that_of_the_textbook() -> None:
    low, high = wilson(0, 200)
    assert low == 0
    assert high == pytest.approx(0.0188, abs=1e-4)
    assert wilson(15, 20) == pytest.approx((0.5313, 0.8881), abs=1e-4)


@pytest.mark.parametrize(("freedom", "value"), [(3, 3.182), (4, 2.776), (9, 2.262), (29, 2.045), (199, 1.972)])
def teststudents_quantile(freedom: int, value: float) -> None:
    assert student(freedom) == pytest.approx(value, rel=1e-2)


@pytest.mark.parametrize("items", [6, 10, 40])
def test_a_bootstrap_of_few_items_covers_what_it_says(items: int) -> None:
    """Percentiles alone would hold the truth in some 86 of 100 draws of six items."""
    generator = np.random.default_rng(1)
    held = 0
    for _ in range(400):
        low, high = paired_bootstrap(list(generator.normal(0.3, 1, items)), [0.0] * items, draws=1000)
        held += low <= 0.3 <= high
    assert 0.91 <= held / 400 <= 0.98


def test_too_few_items_have_no_interval() -> None:
    assert all(math.isnan(end) for end in paired_bootstrap([1.0, 2.0, 3.0, 4.0, 5.0], [0.0] * 5))
    with pytest.raises(ValueError, match="equally long"):
        paired_bootstrap([], [])
