"""Python's ways of using a program: copies, modes of torch, threads that train, arguments that are none."""

from __future__ import annotations

import copy
import pickle
import threading
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

import masc
from masc.backends.torch.training.train import train
from support import ROWS, chain, make_program

TEAM = chain(("a", 2, "ridge"), ("b", 0, "norm"))


def test_a_deep_copy_is_a_program_of_its_own(tiny: Path) -> None:
    program = make_program(TEAM, tiny)
    said, loss = program.generate(ROWS), program(ROWS).loss.item()
    made = copy.deepcopy(program)
    assert made.generate(ROWS) == said
    assert made(ROWS).loss.item() == loss
    train(made, ROWS, steps=2, batch=2, rate=0.1)
    assert made(ROWS).loss.item() != loss
    assert program(ROWS).loss.item() == loss


def test_a_program_is_saved_and_not_pickled(tiny: Path) -> None:
    with pytest.raises(TypeError, match=r"program\.save"):
        pickle.dumps(make_program(TEAM, tiny))


def test_a_folder_stands_for_the_program_in_it(tiny: Path, tmp_path: Path) -> None:
    """As on the command line; what is wrong with a folder is told as what is wrong with a file."""
    (tmp_path / "team.mas").write_text(TEAM.replace("MODEL", f'"{tiny}"'))
    assert masc.check(tmp_path) == []
    assert masc.compile(tmp_path).generate(ROWS) == masc.compile(tmp_path / "team.mas").generate(ROWS)
    (tmp_path / "other.mas").write_text(TEAM)
    assert [one.code for one in masc.check(tmp_path)] == ["E0516"]
    with pytest.raises(masc.MascError, match="E0516"):
        masc.compile(tmp_path)


def test_a_device_that_is_none(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "team.mas").write_text(TEAM.replace("MODEL", f'"{tiny}"'))
    with pytest.raises(ValueError, match="device = 'cdua' cannot be used: Expected one of cpu, cuda"):
        masc.compile(tmp_path, device="cdua")


def test_training_after_inference_mode(tiny: Path) -> None:
    expected = train(make_program(TEAM, tiny), ROWS, steps=1, batch=2)[0]["loss"]
    with torch.inference_mode():
        program = make_program(TEAM, tiny)  # what it keeps is made here: adapters, and the map of `align = ridge`
        program.generate(ROWS)
        assert train(program, ROWS, steps=1, batch=2)[0]["loss"] == expected
    program(ROWS).loss.backward()


def test_a_program_is_trained_once_at_a_time(tiny: Path) -> None:
    program = make_program(TEAM, tiny)
    refused: list[BaseException] = []

    def second() -> None:
        before = {name: p.detach().clone() for name, p in program.trainable().items()}
        try:
            train(program, ROWS, steps=1)
        except ValueError as error:
            refused.append(error)
        assert all(torch.equal(p, before[name]) for name, p in program.trainable().items())

    def listen(_: Any) -> None:
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()

    assert len(train(program, ROWS, steps=1, batch=2, listen=listen)) == 1
    assert "being trained already" in str(refused[0])
    with pytest.raises(KeyboardInterrupt):
        train(program, ROWS, steps=1, listen=_stop)
    train(program, ROWS, steps=1)  # whatever happened before, it may be trained again


def _stop(_: Any) -> None:
    raise KeyboardInterrupt


def test_arguments_that_are_none(tiny: Path) -> None:
    program = make_program(TEAM, tiny)
    row: Any = ROWS[0]
    for call in (program, program.generate, program.trace, lambda row: masc.evaluate(program, row)):
        with pytest.raises(TypeError, match="list of dicts"):
            call(row)
    for name in ("repeat", "batch"):
        with pytest.raises(ValueError, match=f"`{name}` is 0"):
            masc.evaluate(program, ROWS, **{name: 0})
    wrong: Any = lambda _: 3  # noqa: E731
    with pytest.raises(TypeError, match="`evaluate` returns a dict"):
        train(program, ROWS, steps=1, evaluate=wrong)
    with pytest.raises(KeyError, match="did you mean `a#1`"):
        program.trace(ROWS)["aa#1"]


def test_a_seed_that_is_none(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "team.mas").write_text(TEAM.replace("MODEL", f'"{tiny}"'))
    with pytest.raises(ValueError, match="`seed` is -1"):
        masc.compile(tmp_path / "team.mas", seed=-1)


def test_ways_to_say_what_is_cut(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "team.mas").write_text(TEAM.replace("MODEL", f'"{tiny}"'))
    ways: list[Any] = ["a:b", ("a", "b"), ["a", "b"], [("a", "b")], ["a:b"], [["a", "b"]]]
    plans = [masc.compile(tmp_path / "team.mas", cut=cut).plan for cut in ways]
    assert all(plan == plans[0] for plan in plans)
    assert plans[0] != masc.compile(tmp_path / "team.mas").plan
    for wrong in ("a", ["a"], [("a", "b", "c")], [("a", 1)]):
        with pytest.raises(ValueError, match="takes pairs"):
            masc.compile(tmp_path / "team.mas", cut=wrong)


def test_a_channel_that_never_closes_is_told(tiny: Path) -> None:
    program = make_program(chain(("a", 1, "norm"), ("b", 0, "norm"), edge="kv(carry = latents, open = 4)"), tiny)
    with pytest.warns(UserWarning, match="W0304"):
        train(program, ROWS, steps=2, batch=1)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"temprature": 1}, "did you mean `temperature`"),
        ({"top_k": 5}, "there is no option `top_k`"),
        ({"zzz": 5}, "they are temperature, top_p, max_tokens, seed, stop"),
    ],
)
def test_decoding_knows_its_options(tiny: Path, options: dict[str, Any], told: str) -> None:
    program = make_program(TEAM, tiny)
    with pytest.raises(TypeError, match=told):
        program.generate([ROWS[0]], **options)


def test_numbers_of_numpy_are_numbers(tiny: Path, tmp_path: Path) -> None:
    program = make_program(TEAM, tiny)
    sampled = program.generate(ROWS, temperature=1.0, max_tokens=3, seed=4)
    numbers = {"temperature": numpy.float32(1), "max_tokens": numpy.int64(3), "seed": numpy.uint8(4)}
    assert program.generate(ROWS, **numbers) == sampled
    settings = {"steps": numpy.int64(1), "rate": numpy.float32(1e-3), "batch": numpy.int32(2)}
    masc.train(program, ROWS, directory=tmp_path / "run", **settings)
    for wrong in (numpy.float64(2), numpy.bool_(True), True):
        with pytest.raises(ValueError, match="takes a whole number"):
            program.generate(ROWS, max_tokens=wrong)
    with pytest.raises(ValueError, match="must be at most") as caught:
        program.generate(ROWS, temperature=10**5000)
    assert len(str(caught.value)) < 200


def test_set_is_a_dict() -> None:
    with pytest.raises(TypeError, match="`set` is a dict"):
        masc.compile("team.mas", set="steps=2")  # type: ignore[arg-type]
