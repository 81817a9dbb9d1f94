"""Random graphs (`benchmarks/fuzz_graphs.py`), a hundred of them; any number by `python benchmarks/fuzz.py graphs`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

COUNT, PARTS = 100, 5


@pytest.fixture(scope="module")
def fuzz() -> Iterator[Any]:
    folder = str(Path(__file__).parents[2] / "benchmarks")
    sys.path.insert(0, folder)
    try:
        import fuzz_graphs

        yield fuzz_graphs
    finally:
        sys.path.remove(folder)


@pytest.mark.parametrize("part", range(PARTS))
def test_random_graphs_mean_what_they_say(part: int, fuzz: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = fuzz.models(tmp_path_factory.mktemp("fuzz"))
    with fuzz.double_norms():
        found = [fuzz.hold(folder, 1, number) for number in range(part, COUNT, PARTS)]
    assert found.count("valid") > len(found) // 2
