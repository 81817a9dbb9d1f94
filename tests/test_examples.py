"""The examples: each compiles, has the columns that it reads, its committed rows are the generator's, and it trains,
is saved and loaded, and answers (on a tiny model). Those of the family `diffmas` share a few rows written by hand."""

from __future__ import annotations

import importlib
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
from masc.backends.scoring.code import passes
from masc.backends.torch.evaluation.tasks import TASKS
from masc.compiler.analysis.sights import sights
from masc.compiler.channels.text import Read
from masc.compiler.pipeline import compile_file
from masc.dsl.diagnostics import errors
from support import WALLS

ROOT = Path(__file__).resolve().parents[1] / "examples"
EXAMPLES = sorted({path.parent for path in ROOT.glob("*/*.mas")})
GENERATED = [folder for folder in EXAMPLES if (folder / "data.py").exists()]
"""Those with rows of their own; the others use theirs."""
FAMILY = sorted(path.parent for path in ROOT.glob("diffmas/*/*.mas"))
SHAPES = [folder for folder in FAMILY if folder.name.startswith("math")]
"""One of each shape: the others differ in their words alone."""


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda folder: folder.name)
def test_compiles_and_finds_its_columns(folder: Path) -> None:
    compilation = compile_file(folder / f"{folder.name}.mas")
    assert not errors(compilation.diagnostics)
    assert compilation.graph is not None
    columns = {*compilation.graph.inputs, *(column for _, column in compilation.graph.labels)}
    for name in (compilation.graph.train.data, compilation.graph.train.eval_data):
        assert all(set(row) == columns for row in rows(folder / str(name)))


@pytest.mark.parametrize("folder", GENERATED, ids=lambda folder: folder.name)
def test_no_test_row_is_trained_on(folder: Path) -> None:
    train, test = rows(folder / "train.jsonl"), rows(folder / "test.jsonl")
    inputs = [{tuple(v for k, v in row.items() if k != "answer") for row in part} for part in (train, test)]
    assert len(test) == 200
    assert not inputs[0] & inputs[1]


@pytest.mark.parametrize("folder", GENERATED, ids=lambda folder: folder.name)
def test_the_generator_writes_the_committed_rows(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "data.py", tmp_path)
    subprocess.run([sys.executable, tmp_path / "data.py"], check=True, capture_output=True)
    for name in ("train.jsonl", "test.jsonl"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_every_example_is_found() -> None:
    assert {*EXAMPLES, *FAMILY} == {path.parent for path in ROOT.rglob("*.mas") if ".masc" not in str(path)}
    families = ("math", "science", "code", "commonsense")
    assert {folder.name for folder in FAMILY} == {
        f"{family}_{shape}" for family in families for shape in ("sequential", "hierarchical")
    }
    readme = (ROOT / "diffmas" / "README.md").read_text(encoding="utf-8")
    assert all(f"({folder.name}/{folder.name}.mas)" in readme for folder in FAMILY)
    assert all(f"`{name}`" in readme for name in TASKS)


@pytest.mark.parametrize("folder", FAMILY, ids=lambda folder: folder.name)
def test_the_family_compiles_and_its_rows_fit(folder: Path) -> None:
    compilation = compile_file(folder / f"{folder.name}.mas")
    assert not compilation.diagnostics
    assert compilation.plan is not None
    assert compilation.plan.train.data is not None
    few = rows(folder / compilation.plan.train.data)
    assert 4 <= len(few) <= 6
    for row in few:
        assert {"question", "answer"} <= set(row)
        if folder.name.startswith("code"):
            assert passes(row["answer"], row, WALLS)
        elif not folder.name.startswith("math"):
            assert row["question"].startswith("Please choose the correct answer to the question: ")
            assert f"{row['answer'].capitalize()}: " in row["question"]


@pytest.mark.parametrize("folder", FAMILY, ids=lambda folder: folder.name)
def test_the_family_reads_as_its_shape_says(folder: Path) -> None:
    """In sequence each agent sees all before it; side by side the experts see nothing, the judge all three."""
    plan = compile_file(folder / f"{folder.name}.mas").require()
    seen = [len(views) for views in sights(plan).values()]
    assert seen == ([0, 1, 2, 3] if folder.name.endswith("sequential") else [0, 0, 0, 3])


@pytest.mark.parametrize("folder", [*EXAMPLES, *SHAPES], ids=lambda folder: folder.name)
def test_trains_and_answers_on_a_tiny_model(folder: Path, tiny: Path, tmp_path: Path) -> None:
    for path in folder.glob("*.mas"):
        (tmp_path / path.name).write_text(_on_tiny_models(path.read_text(encoding="utf-8"), tiny), encoding="utf-8")
    file = tmp_path / f"{folder.name}.mas"
    program = masc.compile(file, set={"tokens": 8} if folder in SHAPES else None)
    assert program.history.compilation is not None
    few = rows(folder / str(program.history.compilation.require().train.data))[:4]
    history = masc.train(program, few, steps=1, batch=2)
    assert len(history) == 1
    for metrics in history:
        assert math.isfinite(metrics["loss"])
        assert set(metrics["grad_norms"]) == {agent.name for agent in program.plan.agents} | set(program.across)
        idle = {agent.name for agent in program.plan.agents if agent.lora is None}
        assert {name for name, norm in metrics["grad_norms"].items() if norm == 0} == idle
    program.save(tmp_path / "team.masc")
    (answer,) = program.generate(few[:1])
    assert isinstance(answer, str)
    assert masc.load(tmp_path / "team.masc").generate(few[:1]) == [answer]


def _on_tiny_models(text: str, tiny: Path) -> str:
    """The same file on tiny models, a second model on another one."""
    folders = {"gemma": tiny.parent / "other"}

    def on(found: re.Match[str]) -> str:
        return f"{found[1]}{json.dumps(str(folders.get(found[2], tiny)))}"

    small, count = re.subn(r'^(model (\w+) = )".*"', on, text, flags=re.M)
    assert count == text.count("\nmodel ") > 0
    return small


@pytest.mark.parametrize("folder", [*EXAMPLES, *SHAPES], ids=lambda folder: folder.name)
def test_runs_in_words_too(folder: Path, tiny: Path, tmp_path: Path) -> None:
    """`--channel text`: the same graph, every edge text."""
    for path in folder.glob("*.mas"):
        (tmp_path / path.name).write_text(_on_tiny_models(path.read_text(encoding="utf-8"), tiny), encoding="utf-8")
    compilation = compile_file(tmp_path / f"{folder.name}.mas", channel="text")
    plan = compilation.require()
    arriving = [arrival for turn in plan.turns for arrival in turn.arrives]
    assert not any(turn.sees for turn in plan.turns)
    assert {type(arrival) for arrival in arriving} == {Read}


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`benchmarks/examples.py`."""
    monkeypatch.syspath_prepend(ROOT.parent / "benchmarks")
    return importlib.import_module("examples")


def test_all_are_trained_by_the_script_that_trains_them(trained: Any) -> None:
    assert {one.name for one in trained.EXAMPLES} == {folder.name for folder in EXAMPLES}
    for one in trained.EXAMPLES:
        compilation = compile_file(ROOT / one.name / f"{one.name}.mas")
        assert compilation.graph is not None
        told = {str(compilation.graph.train.data), str(compilation.graph.train.eval_data)}
        folder = "" if one.data == one.name else f"../{one.data}/"
        assert told == {f"{folder}train.jsonl", f"{folder}test.jsonl"}
        ends = ((edge.sender.split("#")[0], edge.receiver.split("#")[0]) for edge in compilation.graph.edges)
        assert tuple(one.cut.split(":")) in ends


def test_what_the_script_has_done_is_not_done_again(
    trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A command that fails is told, and what comes behind it is left out; the next call goes on from there."""
    calls: list[tuple[str, ...]] = []

    def run(self: Any, log: str, *arguments: str) -> None:
        calls.append(arguments)
        if arguments[0] == "compile":
            Path(arguments[3]).mkdir()
        elif arguments[0] == "train" and "--resume" not in arguments:
            (Path(arguments[1]) / "checkpoints").mkdir()
            raise RuntimeError("it was stopped")
        elif arguments[0] == "eval":
            path = Path(arguments[arguments.index("--out") + 1])
            assert not path.exists()
            path.write_text(json.dumps({"accuracy": 0.25 if "--cut" in arguments else 0.75}), encoding="utf-8")

    monkeypatch.setattr(trained.Bench, "run", run)
    (relay,) = (one for one in trained.EXAMPLES if one.name == "relay")
    bench = trained.Bench(tmp_path, ["--device", "cpu"])
    assert [bench.all_of(relay, 1) for _ in range(3)] == [False, True, True]
    assert [call[0] for call in calls] == ["compile", "train", "train", "eval", "eval"]
    assert all(call[-2:] == ("--device", "cpu") for call in calls[1:])
    assert "it was stopped" in capsys.readouterr().out
    last = trained.table(bench, [relay], [0, 1]).splitlines()[-1]
    assert last == "| relay | -, 75.0% | 75.0% | -, 25.0% | refiner:solver |"
