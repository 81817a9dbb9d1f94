"""What is recorded on a GPU and replayed: here work that is done again takes the place of a graph (`recorders`)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from recorders import Again

from graphs import GRAPHS
from masc.backends.torch.model import capture, folded
from masc.backends.torch.model.cache import Slots
from masc.backends.torch.model.capture import Captures
from masc.compiler.analysis.decoding import Decoding
from support import ROWS, chain, make_model, make_program

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


@pytest.mark.parametrize(("name", "share"), [("trace", 0.5), ("trace", 0.0), ("stack", 0.5), ("no adapters", 0.5)])
def test_a_second_call_records_nothing(name: str, share: float, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Adapters folded, beside the weights where there is no memory for copies, of several agents in a batch, none: what
    was recorded serves until they are trained, and then nothing of it does."""
    made = GRAPHS.get(name) or chain(("a", 2, "norm"), ("b", 2, "norm"), ("c", 0, "norm"), adapt="none")
    program = make_program(made, tiny)
    monkeypatch.setattr(Captures, "on", lambda device: Captures(Again))
    monkeypatch.setattr(capture, "WORTH", 1)
    monkeypatch.setattr(folded, "SHARE", share)
    recorded, counted = Again.record, []
    monkeypatch.setattr(Again, "record", lambda self, work: (counted.append(1), recorded(self, work))[1])
    for _ in range(3):
        wanted, before = program.say(ROWS), len(counted)
    program.say(ROWS)
    assert 0 < len(counted) == before
    with torch.no_grad():
        for parameter in program.trainable().values():
            parameter.mul_(1.5)
    for _ in range(2):
        found, exact = program.say(ROWS), program.say(ROWS, engine="exact")
        assert [one["answer"].ids for one in found] == [one["answer"].ids for one in exact]
    assert (found != wanted) == (len(counted) > before) == bool(program.trainable())


WINDOWS = ("qwen2", {"use_sliding_window": True, "sliding_window": 24, "max_window_layers": 1})


@pytest.mark.parametrize("windows", [False, True], ids=["all", "windows"])
def test_slots_of_an_earlier_call_hide_what_it_left(
    windows: bool, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slots and recorded passes are kept from call to call: for shorter rows, for others, and for other weights."""
    model = make_model(tmp_path / "windows", WINDOWS[0], **WINDOWS[1]) if windows else tiny
    program = make_program(GRAPHS["trace"], model)
    monkeypatch.setattr(Captures, "on", lambda device: Captures(Again))
    monkeypatch.setattr(capture, "WORTH", 1)
    made, init = [], Slots.__init__
    monkeypatch.setattr(Slots, "__init__", lambda self, *given: (made.append(1), init(self, *given))[1])
    calls = [ROWS, [{"q": "b"}, *ROWS[::-1]][:4], [{"q": "no"}], ROWS]
    for number, rows in enumerate(calls):
        if number == len(calls) - 1:  # what was recorded under the adapters as they were is of no use
            with torch.no_grad():
                for parameter in program.trainable().values():
                    parameter.mul_(1.5)
        found, wanted = program.say(rows), program.say(rows, engine="exact")
        assert [one["answer"].ids for one in found] == [one["answer"].ids for one in wanted]
        for one, other in zip(found, wanted, strict=True):
            assert one["answer"].logprob == pytest.approx(other["answer"].logprob, abs=1e-3)
    assert len(made) == 2  # one for prompts and latents, one for answers


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
