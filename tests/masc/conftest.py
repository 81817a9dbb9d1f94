"""The command called in this process, and a folder to call it in."""

from __future__ import annotations

import gc
import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main

import comparisons
from courier import GRAPH, ROWS, Command, Result


@cache
def made_once(app: Any) -> Any:
    """What typer makes of the declarations, the same for each call: a tenth of a second."""
    return GET_COMMAND(app)


GET_COMMAND = typer.main.get_command


@pytest.fixture
def masc(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    from masc.cli import main

    monkeypatch.setattr("typer.main.get_command", made_once)

    def call(*arguments: object) -> Result:
        monkeypatch.setattr("sys.argv", ["masc", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as error:
            code = int(error.code or 0)
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return call


@pytest.fixture
def folder(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a graph, its data and a model; it is the working directory."""
    shutil.copytree(tiny, tmp_path / "tiny")
    (tmp_path / "courier.mas").write_text(GRAPH)
    for name, part in (("train.jsonl", ROWS[:6]), ("test.jsonl", ROWS[4:])):
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in part))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def team(folder: Path) -> Path:
    """A team to compare, with its data. What is there already need not be looked at when garbage is collected, as it is
    after each of its rows."""
    gc.freeze()
    (folder / "team.mas").write_text(comparisons.TEAM)
    for name, part in (("train", comparisons.ROWS[:4]), ("test", comparisons.ROWS[2:])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    return folder / "team.mas"
