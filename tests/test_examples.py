"""The examples: each compiles, has the columns that it reads, its committed rows are the generator's, and it trains,
is saved and loaded, and answers (on a tiny model)."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import masc
from masc.compiler.pipeline import compile_file
from masc.dsl.diagnostics import errors

EXAMPLES = sorted(path.parent for path in (Path(__file__).resolve().parents[1] / "examples").glob("*/*.mas"))


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda folder: folder.name)
def test_compiles_and_finds_its_columns(folder: Path) -> None:
    compilation = compile_file(folder / f"{folder.name}.mas")
    assert not errors(compilation.diagnostics)
    assert compilation.graph is not None
    columns = {*compilation.graph.inputs, *(column for _, column in compilation.graph.labels)}
    for name in ("train.jsonl", "test.jsonl"):
        assert all(set(row) == columns for row in rows(folder / name))


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda folder: folder.name)
def test_no_test_row_is_trained_on(folder: Path) -> None:
    train, test = rows(folder / "train.jsonl"), rows(folder / "test.jsonl")
    inputs = [{tuple(v for k, v in row.items() if k != "answer") for row in part} for part in (train, test)]
    assert len(test) == 200
    assert not inputs[0] & inputs[1]


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda folder: folder.name)
def test_the_generator_writes_the_committed_rows(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "data.py", tmp_path)
    subprocess.run([sys.executable, tmp_path / "data.py"], check=True, capture_output=True)
    for name in ("train.jsonl", "test.jsonl"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda folder: folder.name)
def test_trains_and_answers_on_a_tiny_model(folder: Path, tiny: Path, tmp_path: Path) -> None:
    text = (folder / f"{folder.name}.mas").read_text(encoding="utf-8")
    small, count = re.subn(r'^(model \w+ = )".*"', lambda found: f"{found[1]}{json.dumps(str(tiny))}", text, flags=re.M)
    assert count == text.count("\nmodel ") > 0
    file = tmp_path / f"{folder.name}.mas"
    file.write_text(small, encoding="utf-8")
    program = masc.compile(file)
    few = rows(folder / "train.jsonl")[:4]
    history = masc.train(program, few, steps=2, batch=2)
    assert len(history) == 2
    for metrics in history:
        assert math.isfinite(metrics["loss"])
        assert set(metrics["grad_norms"]) == {agent.name for agent in program.plan.agents}
        assert all(norm > 0 for norm in metrics["grad_norms"].values()), metrics["grad_norms"]
    program.save(tmp_path / "team.masc")
    (answer,) = program.generate(few[:1])
    assert isinstance(answer, str)
    assert masc.load(tmp_path / "team.masc").generate(few[:1]) == [answer]
