"""Activations that are recorded in training: here work that is done again takes the place of a graph (`recorders`)."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any
from weakref import ref

import pytest
import torch
from recorders import Again

import masc
from graphs import GRAPHS
from masc.backends.torch.engine.recorded import Recordings, Work
from masc.backends.torch.model.recording import Recorded
from masc.backends.torch.model.recording import Work as Launched
from support import ROWS, chain, make_program

Gradients = dict[str, torch.Tensor]
LATE = "nothing to learn at the end"
TEAMS = GRAPHS | {
    LATE: chain(("a", 2, "norm"), ("b", 0, "norm")).replace("lora(rank = 4, alpha = 8) answer", "none answer")
}
SOME = [
    ("hidden", False),
    (LATE, False),
    ("rounds", False),
    ("overlap", True),
    ("stack", True),
    ("text", True),
    ("rounds", True),
]
"""Graphs, and whether everything is computed again in the backward pass."""


def gradients(program: Any, recordings: Recordings | None, rows: Any, recompute: bool = False) -> Gradients:
    """Those that there are."""
    for parameter in program.trainable().values():
        parameter.grad = None
    with program.holding(recordings=recordings):
        program(rows, recompute=recompute).loss.backward()
    return {name: p.grad.clone() for name, p in program.trainable().items() if p.grad is not None}


def check(found: Gradients, wanted: Gradients) -> None:
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        off = (found[name] - gradient).abs().max() / gradient.abs().max().clamp_min(1e-12)
        assert off < 1e-5, (name, float(off))  # adapters are float32


@pytest.mark.parametrize(("name", "recompute"), SOME)
def test_recorded_activations_have_the_same_gradients(
    name: str, recompute: bool, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As they are, then recorded, then replayed: of one batch, and of another that is as wide when it is padded."""
    program = make_program(TEAMS[name], tiny, dtype="float64")
    assert any(agent.adapter is None for agent in program.plan.agents) == (name == LATE)
    recordings = Recordings(Again)
    monkeypatch.setattr(Again, "replays", 0)
    wanted = {turn: gradients(program, None, ROWS[::turn]) for turn in (1, -1)}
    for turn in (1, 1, -1):
        check(gradients(program, recordings, ROWS[::turn], recompute), wanted[turn])
    assert Again.replays > 0


def test_a_batch_reads_what_its_rows_read(tiny: Path) -> None:
    """However wide its prompts and labels are: a row that just fits still does."""
    program = make_program(GRAPHS["trace"], tiny)
    with torch.no_grad():
        alone = [program([row]).positions for row in ROWS]
        assert program(ROWS).positions == sum(alone)
        most = max(alone)  # in a chain whose agents follow each other
        with program.holding(recordings=Recordings(Again), max_length=most):
            assert program(ROWS).positions == sum(alone)
        with program.holding(max_length=most - 1), pytest.raises(masc.MascError, match="E0606"):
            program(ROWS)


def test_a_run_records(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is trained on a GPU ends where it does elsewhere, with prompts of several widths, too."""
    rows = [{"q": "ab " * (20 * i + 1), "answer": "yes"} for i in range(3)]
    settings: dict[str, Any] = {"steps": 9, "batch": 1, "rate": 1e-3}
    plain, program = (make_program(GRAPHS["trace"], tiny, dtype="float64") for _ in range(2))
    masc.train(plain, rows, **settings)
    monkeypatch.setattr(Recordings, "on", staticmethod(lambda device: Recordings(Again)))
    monkeypatch.setattr(Again, "replays", 0)
    masc.train(program, rows, **settings)
    assert Again.replays > 0
    ended = program.trainable()
    for name, parameter in plain.trainable().items():
        torch.testing.assert_close(ended[name], parameter, atol=1e-6, rtol=1e-4, msg=lambda _, n=name: n)


def test_agents_that_learn_nothing_are_recorded(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what is evaluated, under weights that have changed since."""
    program = make_program(GRAPHS["trace"].replace("kv", "kv(gradient = stop)"), tiny, dtype="float64")
    recordings = Recordings(Again)
    for turn in (1, 1, -1):
        check(gradients(program, recordings, ROWS[::turn]), gradients(program, None, ROWS[::turn]))
    with torch.no_grad():
        for scale in (1, 1, 1.5):
            for parameter in program.trainable().values():
                parameter.mul_(scale)
            monkeypatch.setattr(Again, "replays", 0)
            with program.holding(recordings=recordings):
                loss = program(ROWS).loss
            assert float(loss) == pytest.approx(float(program(ROWS).loss), abs=1e-6)
    assert Again.replays == 3


def test_what_cannot_be_recorded_is_computed_as_it_is(tiny: Path) -> None:
    class Failing:
        def record(self, work: Launched) -> Recorded:
            raise RuntimeError("operation not permitted when stream is capturing")

    program = make_program(GRAPHS["trace"], tiny)
    recordings, wanted = Recordings(Failing), gradients(program, None, ROWS)  # type: ignore[arg-type]
    check(gradients(program, recordings, ROWS), wanted)
    with pytest.warns(UserWarning, match="could not be recorded, and will be launched anew: operation not permitted"):
        check(gradients(program, recordings, ROWS), wanted)
    check(gradients(program, recordings, ROWS), wanted)


def test_other_outputs_may_be_reached() -> None:
    """A gradient that is not there is none, and not one of zeros."""
    weights = [torch.randn(3, requires_grad=True) for _ in range(2)]

    def body(weights: Any, given: Any) -> tuple[torch.Tensor, ...]:
        return tuple(weight * given[0] for weight in weights)

    recordings, batches = Recordings(Again), []
    for reached in ((0,), (0,), (0,), (0, 1), (1,), (0, 1)):
        given = torch.randn(3)
        batches.append(ref(given))
        found = recordings.run(
            Work("a", body, partial(body, weights, [given]), [given], weights, None, recompute=False)
        )
        gradients = torch.autograd.grad([found[i].sum() for i in reached], weights, allow_unused=True)
        for i, gradient in enumerate(gradients):
            assert (gradient is not None) == (i in reached)
            assert gradient is None or torch.equal(gradient, given)
    del given, found
    assert [batch() for batch in batches] == [None] * len(batches)  # of no batch anything is kept


def test_two_passes_before_a_backward_one_are_refused(tiny: Path) -> None:
    program = make_program(GRAPHS["trace"], tiny)
    recordings = Recordings(Again)
    for _ in range(2):
        gradients(program, recordings, ROWS)
    with program.holding(recordings=recordings):
        first, _ = program(ROWS).loss, program(ROWS).loss
        with pytest.raises(RuntimeError, match="run again before its backward pass"):
            first.backward()
