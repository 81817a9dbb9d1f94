"""What two engines said, held against each other."""

from __future__ import annotations

import pytest

from masc.backends.torch.engine.outputs import Said


def same(found: list[dict[str, Said]], wanted: list[dict[str, Said]]) -> None:
    """The same tokens, texts and ends, and log-probabilities but for rounding."""
    assert len(found) == len(wanted)
    for row, other in zip(found, wanted, strict=True):
        assert row.keys() == other.keys()
        for name, said in row.items():
            want = other[name]
            assert (said.ids, said.text, said.scored, said.cut) == (want.ids, want.text, want.scored, want.cut)
            assert said.logprob == pytest.approx(want.logprob, abs=1e-3)
