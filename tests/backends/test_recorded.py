"""What is recorded on a GPU and replayed: here work that is done again takes the place of a graph (`recorders`)."""

from __future__ import annotations

from pathlib import Path

import pytest
from recorders import Again

from graphs import GRAPHS
from masc.backends.torch.model import capture
from masc.backends.torch.model.capture import Captures
from masc.compiler.analysis.decoding import Decoding
from support import ROWS, make_program

SOME = ["trace", "soft latents", "stack", "hidden", "fuse", "rounds", "text"]


@pytest.mark.parametrize("name", SOME)
def test_recorded_passes_decode_the_same(name: str, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Latent steps and tokens; rows that leave, others that come in; also where nothing is like it was before."""
    program = make_program(GRAPHS[name], tiny)
    wanted = [program.say([row]) for row in ROWS]
    monkeypatch.setattr(Captures, "on", lambda device: Captures(Again))
    monkeypatch.setattr(capture, "WORTH", 1)
    monkeypatch.setattr(Again, "replays", 0)
    found = dict(program.say_each(ROWS, 2))
    for i, (row,) in enumerate(wanted):
        assert {said: one.ids for said, one in found[i].items()} == {said: one.ids for said, one in row.items()}
    assert Again.replays > 0


def test_a_pass_is_recorded_where_it_pays(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for all tokens of an answer, and not for a handful."""
    program = make_program(GRAPHS["no latents"], tiny)
    monkeypatch.setattr(Captures, "on", lambda device: Captures(Again))
    recorded, counted = Again.record, []
    monkeypatch.setattr(Again, "record", lambda self, work: (counted.append(1), recorded(self, work))[1])
    program.say(ROWS[:1], decoding=Decoding(max_tokens=capture.WORTH))
    assert not counted
    program.say(ROWS[:1], decoding=Decoding(max_tokens=20))
    assert len(counted) == 1
