"""Where commands refuse to write: over what they read, into an artifact or a model, into somebody's folder."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from courier import Command
from masc.dsl.diagnostics import MascError
from masc.studies.comparison_runs import ROWS


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "arguments",
    [
        ("eval", "--data", "test.jsonl", "--out", "test.jsonl"),
        ("eval", "--data", "test.jsonl", "--items", "./tiny/../test.jsonl"),
        ("eval", "--out", "test.jsonl"),
        ("eval", "--out", "train.jsonl"),
        ("eval", "--out", "courier.mas"),
        ("eval", "--out", "link.json"),
        ("eval", "--out", "hard.json"),
        ("eval", "--items", "part.mas"),
        ("eval", "--out", "x.json", "--items", "x.json"),
        ("eval", "--out", "courier.masc/manifest.json"),
        ("eval", "--out", "courier.masc/adapters/new.json"),
        ("eval", "--out", "tiny/config.json"),
        ("eval", "--items", "tiny/new.json"),
        ("audit", "-o", "courier.mas"),
        ("audit", "--data", "test.jsonl", "-o", "test.jsonl"),
        ("audit", "courier.masc", "-o", "courier.masc/plan.json"),
        ("run", "--data", "new.jsonl.partial", "--out", "new.jsonl"),
        ("run", "--data", "test.jsonl", "--out", "courier.masc/new.jsonl"),
        ("draw", "-o", "courier.masc/x.svg"),
        ("draw", "-o", "linked.svg"),
        ("fmt", "courier.mas", "--to", "yaml", "-o", "courier.masc/x.yaml"),
    ],
    ids=" ".join,
)
def test_nothing_that_is_read_is_written_over(masc: Command, folder: Path, arguments: tuple[str, ...]) -> None:
    source = (folder / "courier.mas").read_text()
    (folder / "part.mas").write_text('mas 1\n\nmodel other = "./tiny"\n')
    (folder / "courier.mas").write_text(source.replace("mas 1\n", 'mas 1\n\nimport "part.mas" (other)\n'))
    assert masc("compile").code == 0
    os.symlink("test.jsonl", folder / "link.json")
    os.link("test.jsonl", folder / "hard.json")
    os.symlink("courier.mas", folder / "linked.svg")
    (folder / "new.jsonl.partial").write_text(json.dumps([{"code": "1", "answer": "1"}], indent=1))
    before = contents(folder)
    refused = masc(*arguments)
    assert (refused.code, "E0612" in refused.err) == (1, True), refused.err
    assert contents(folder) == before


@pytest.mark.parametrize("out", ["courier.mas", "train.jsonl", "audit.json", "tiny/x.svg", "courier.masc/x.svg"])
def test_a_drawing_from_python_is_guarded_as_that_of_the_command(masc: Command, folder: Path, out: str) -> None:
    import masc as api

    assert masc("compile").code == 0
    (folder / "audit.json").write_text('{"edges": []}')
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(MascError, match="E0612"):
        api.draw("courier.mas", out, audit="audit.json")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    api.draw("courier.mas", "out.svg", set={"latents": 3})
    api.draw("courier.mas", "out.svg")


def test_a_report_is_written_over_an_earlier_one(masc: Command, folder: Path) -> None:
    for _ in range(2):
        done = masc("eval", "--limit", 1, "--out", "eval.json", "--items", "items.jsonl")
        assert done.code == 0, done.err
    drawn = [masc("draw", "-o", "x.svg").code for _ in range(2)]
    assert drawn == [0, 0]


@pytest.mark.parametrize(
    ("out", "code"),
    [(".", "E0612"), ("courier.masc", "E0612"), ("tiny", "E0612"), ("mine", "E0518"), ("boards", "E0518")],
)
def test_a_comparison_writes_into_no_folder_but_its_own(masc: Command, folder: Path, out: str, code: str) -> None:
    assert masc("compile").code == 0
    (folder / "mine").mkdir()
    (folder / "mine/table.md").write_text("mine")
    (folder / "mine/notes.txt").write_text("mine")
    (folder / "boards/runs/Jan01-host").mkdir(parents=True)
    before = contents(folder)
    refused = masc("compare", "-o", out, "--rows", "single")
    assert (refused.code, code in refused.err) == (1, True), refused.err
    assert contents(folder) == before


def test_a_comparison_knows_its_own_folder(masc: Command, folder: Path) -> None:
    asked = ("compare", "-o", "own", "--rows", "single", "--samples", 0, "--limit", 1)
    (folder / "own").mkdir()
    assert masc(*asked).code == 0
    (folder / "own/notes.txt").write_text("mine")
    again = masc(*asked)
    assert (again.code, "done before" in again.err) == (0, True), again.err
    from masc.session.outputs import _RUN

    assert all(_RUN.fullmatch(f"{row}-{'0' * 12}") for row in ROWS)


@pytest.mark.parametrize(("option", "given"), [("--seeds", "0,0"), ("--seeds", "1,01"), ("--rows", "team,team")])
def test_what_is_named_twice_in_a_comparison_is_told(masc: Command, folder: Path, option: str, given: str) -> None:
    refused = masc("compare", option, given)
    assert (refused.code, "is named twice" in refused.err) == (2, True), refused.err


def test_a_pipe_for_an_audit_is_told(masc: Command, folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    refused = masc("draw", "--audit", "pipe", "-o", "x.svg")
    assert (refused.code, "E0601" in refused.err) == (1, True), refused.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("eval", "--out", "run/checkpoints/step-000002/state.json"),
        ("eval", "--items", "run/checkpoints/step-000002/new.jsonl"),
        ("eval", "--out", "run/checkpoints/eval.json"),
        ("eval", "--out", "run/metrics.jsonl"),
        ("eval", "--out", "link.json"),
        ("eval", "--out", "copy/step-000002/SHA256SUMS"),
        ("run", "--data", "test.jsonl", "--out", "run/checkpoints/step-000002/new.jsonl"),
        ("audit", "-o", "run/checkpoints/step-000002/weights.safetensors"),
        ("draw", "-o", "run/checkpoints/step-000002/x.svg"),
        ("fmt", "courier.mas", "--to", "yaml", "-o", "run/checkpoints/x.yaml"),
        ("compare", "--rows", "single", "-o", "run/checkpoints/step-000002"),
        ("compare", "--rows", "single", "-o", "run/checkpoints/new"),
    ],
    ids=" ".join,
)
def test_a_checkpoint_outside_of_an_artifact_is_not_written_over(
    masc: Command, folder: Path, arguments: tuple[str, ...]
) -> None:
    for where in ("run/checkpoints/step-000002", "copy/step-000002"):
        (folder / where).mkdir(parents=True)
        for name in ("state.json", "weights.safetensors", "optimizer.safetensors", "SHA256SUMS"):
            (folder / where / name).write_text("kept")
    (folder / "run/metrics.jsonl").write_text("kept")
    os.symlink("run/checkpoints/step-000002/state.json", folder / "link.json")
    before = contents(folder)
    refused = masc(*arguments)
    assert (refused.code, "E0612" in refused.err) == (1, True), refused.err
    assert contents(folder) == before


def test_beside_checkpoints_anything_may_be_written(masc: Command, folder: Path) -> None:
    (folder / "run/checkpoints/step-000002").mkdir(parents=True)
    assert masc("draw", "-o", "run/x.svg").code == 0
    (folder / "mine/checkpoints").mkdir(parents=True)
    assert masc("draw", "-o", "mine/checkpoints/x.svg").code == 0
