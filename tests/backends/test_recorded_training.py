"""Activations that are recorded in training: here work that is done again takes the place of a graph (`recorders`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from recorders import Again

from graphs import GRAPHS
from masc.backends.torch.engine.recorded import Recordings
from support import ROWS, make_program

Gradients = dict[str, torch.Tensor]


def gradients(program: Any, recordings: Recordings | None, rows: Any = ROWS, **how: Any) -> tuple[float, Gradients]:
    """The loss, and the gradients that there are."""
    for parameter in program.trainable().values():
        parameter.grad = None
    with program.holding(recordings=recordings):
        loss = program(rows, **how).loss
        loss.backward()
    found = {name: p.grad.clone() for name, p in program.trainable().items() if p.grad is not None}
    return float(loss.detach()), found


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The activations that have been recorded."""
    names: list[str] = []
    whole = Recordings._recorded

    def noted(self: Recordings, work: Any, reached: Any) -> Any:
        names.append(work.name)
        return whole(self, work, reached)

    monkeypatch.setattr(Recordings, "_recorded", noted)
    return names


@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("name", list(GRAPHS))
def test_recorded_activations_have_the_same_gradients(
    name: str, recompute: bool, tiny: Path, counted: list[str]
) -> None:
    """Passes as they are, then recorded, then replayed, of one batch and of another of the same shapes."""
    program = make_program(GRAPHS[name], tiny, dtype="float64")
    recordings = Recordings(Again)
    for rows in (ROWS, ROWS, ROWS[::-1], ROWS):
        loss, found = gradients(program, recordings, rows, recompute=recompute)
        wanted, exact = gradients(program, None, rows)
        assert loss == pytest.approx(wanted, abs=1e-12)
        assert found.keys() == exact.keys()
        for parameter, gradient in exact.items():
            off = (found[parameter] - gradient).abs().max() / gradient.abs().max().clamp_min(1e-12)
            assert off < 1e-5, (parameter, float(off))  # adapters are float32
