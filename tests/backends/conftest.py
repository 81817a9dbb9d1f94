"""A run that has ended, for the tests that go on from it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from finished import SETTINGS, TEXT
from masc.backends.torch.training.train import train
from support import ROWS, make_program


@pytest.fixture(scope="module")
def done(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of four steps."""
    folder = tmp_path_factory.mktemp("done")
    train(make_program(TEXT, tiny), ROWS, ROWS[:2], directory=folder, eval_every=2, **SETTINGS)
    return folder


@pytest.fixture
def run(done: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(done, tmp_path / "run"))
