"""Folders that Python's `masc.train(..., directory=...)` wrote into are no artifacts: it is said how to make one."""

from __future__ import annotations

from pathlib import Path

import pytest

import masc as api
from courier import ROWS, Command
from masc.dsl.diagnostics import MascError


@pytest.fixture
def trained(folder: Path) -> dict[str, object]:
    """The weights of a training in `run/`."""
    program = api.compile("courier.mas", device="cpu")
    api.train(program, ROWS, steps=2, save_every=1, directory="run")
    return dict(program.state_dict(trainable_only=True))


def refused(path: str, checkpoint: str | None = None) -> tuple[str, str]:
    with pytest.raises(MascError) as raised:
        api.load(path, checkpoint=checkpoint, device="cpu")
    (found,) = raised.value.diagnostics
    return found.message, found.hint or ""


def test_the_hint_says_what_is_true(folder: Path, trained: dict[str, object]) -> None:
    """The program that is saved there need not be the trained one: the checkpoints have its weights."""
    for path, which in (("run", "last"), ("run/checkpoints", "last"), ("run/checkpoints/step-000001", "1")):
        message, hint = refused(path)
        assert f"`{path}` holds checkpoints of a training" in message
        assert '`program.save("run")`' in hint
        assert f"`--checkpoint {which}`" in hint
    assert refused("run", "last") == refused("run")
    api.compile("courier.mas", device="cpu").save("run")
    loaded = api.load("run", checkpoint="last", device="cpu").state_dict(trainable_only=True)
    assert all(loaded[name].equal(weight) for name, weight in trained.items())
    message, hint = refused("run/checkpoints/step-000001")
    assert "belongs to the artifact `run`" in message
    assert hint == "give `run` and `--checkpoint 1`"


def test_the_command_says_so_too(masc: Command, folder: Path, trained: dict[str, object]) -> None:
    for words in (("run", "run", "--input", "code=1"), ("eval", "run"), ("eval", "courier.mas", "--weights", "run")):
        assert 'program.save("run")' in masc(*words).err
    assert 'program.save("run")' in masc("train", "courier.mas", "--init-from", "run").err
    (folder / "run").rename(folder / "run.masc")
    assert 'program.save("run.masc")' in masc("eval", "run.masc").err


def test_other_folders_are_not_taken_for_one(masc: Command, folder: Path) -> None:
    (folder / "mine/checkpoints").mkdir(parents=True)
    (folder / "mine/checkpoints/notes.txt").write_text("mine")
    for path in ("mine", "mine/checkpoints"):
        assert "there is no .mas file in" in masc("check", path).err
