"""Four hundred mutants of the examples and of wrong files, by the code of `python benchmarks/fuzz.py texts`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest


def test_texts(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    import fuzz_texts

    failed = fuzz_texts.run(400, seed=0)
    assert not failed, capsys.readouterr().out
    sys.modules.pop("fuzz_texts")
