"""The folder `x.masc`: written, read, recompiled, damaged, found."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from masc.compiler.artifact import (
    ModelRecord,
    artifact_of,
    atomic_write,
    locate,
    mark_trained,
    model_hash,
    read_artifact,
    state,
    write_artifact,
)
from masc.compiler.pipeline import Compilation, compile_file, compile_source
from masc.dsl.diagnostics import MascError, errors
from masc.dsl.source import Source
from teams import source


def program(steps: int = 2, train: str = "", **settings: str) -> Compilation:
    text = source(f"a/{steps} b!", "a -> b : kv", train=train).text
    return compile_source(Source("team.mas", text), set=settings)


def code(run: Callable[[], object]) -> str:
    with pytest.raises(MascError) as caught:
        run()
    return errors(caught.value.diagnostics)[0].code


def test_written_and_read(tmp_path: Path) -> None:
    root = tmp_path / "team.masc"
    compilation = program(train="train {\n  seed 7\n}", batch="9")
    record = ModelRecord("m", "no-one/not-on-disk", "abc", "123")
    written = write_artifact(root, compilation, models=(record,))
    artifact = read_artifact(root)
    assert artifact == written
    assert artifact.plan == compilation.plan
    assert artifact.source.read_text() == compilation.source.text  # type: ignore[union-attr]
    assert (artifact.manifest.seed, artifact.manifest.trained, artifact.manifest.models) == (7, False, (record,))
    assert artifact.manifest.set == (("batch", "9"),)
    assert dict(artifact.manifest.versions)["masc"]
    assert sorted(os.listdir(root)) == ["manifest.json", "plan.json", "team.mas"]


def test_states(tmp_path: Path) -> None:
    root = tmp_path / "team.masc"
    assert state(root, program()) == "missing"
    write_artifact(root, program())
    assert state(root, program()) == "fresh"
    assert state(root, program(train="train {\n  steps 9\n}")) == "fresh"
    assert state(root, program(3)) == "stale"


def trained(root: Path, compilation: Compilation) -> None:
    artifact = write_artifact(root, compilation)
    for name in ("a", "b"):
        atomic_write(artifact.layout.adapters / name / "adapter_model.safetensors", b"weights")
    mark_trained(artifact)


def test_an_unchanged_plan_keeps_the_weights(tmp_path: Path) -> None:
    root = tmp_path / "team.masc"
    trained(root, program())
    write_artifact(root, program(train="train {\n  steps 9\n  seed 3\n}"))
    artifact = read_artifact(root)
    assert artifact.manifest.trained
    assert artifact.manifest.seed == 0
    assert artifact.plan.train.steps == 9
    assert (root / "adapters" / "a" / "adapter_model.safetensors").read_bytes() == b"weights"


def test_a_changed_plan_needs_force(tmp_path: Path) -> None:
    root = tmp_path / "team.masc"
    trained(root, program())
    assert code(lambda: write_artifact(root, program(3))) == "E0513"
    assert read_artifact(root).plan == program().plan
    write_artifact(root, program(3), force=True)
    assert not read_artifact(root).manifest.trained
    assert not (root / "adapters").exists()


def test_checkpoints_are_weights(tmp_path: Path) -> None:
    root = tmp_path / "team.masc"
    artifact = write_artifact(root, program())
    atomic_write(artifact.layout.checkpoints / "step-50" / "x", b"")
    assert code(lambda: write_artifact(root, program(3))) == "E0513"
    write_artifact(root, program())


def test_an_untrained_artifact_is_replaced(tmp_path: Path) -> None:
    root = tmp_path / "team.masc"
    write_artifact(root, program())
    write_artifact(root, program(3))
    assert read_artifact(root).plan == program(3).plan


def test_errors_write_nothing(tmp_path: Path) -> None:
    root = tmp_path / "team.masc"
    broken = compile_source(source("a!", "a -> a : kv"))
    assert code(lambda: write_artifact(root, broken)) == "E0303"
    assert not root.exists()


DAMAGE: list[tuple[str, str, str]] = [
    ("manifest.json", "{", "E0511"),
    ("manifest.json", "[]", "E0511"),
    ("manifest.json", '{"format": 1}', "E0511"),
    ("manifest.json", '{"format": 99}', "E0512"),
    ("plan.json", "{", "E0511"),
    ("plan.json", '{"format": 99}', "E0512"),
]


@pytest.mark.parametrize(("name", "text", "expected"), DAMAGE)
def test_damage(tmp_path: Path, name: str, text: str, expected: str) -> None:
    root = tmp_path / "team.masc"
    write_artifact(root, program())
    (root / name).write_text(text)
    assert code(lambda: read_artifact(root)) == expected
    write_artifact(root, program(), force=True)
    assert read_artifact(root).plan == program().plan


@pytest.mark.parametrize(
    ("field", "value"), [("trained", "yes"), ("source", "../x.mas"), ("models", [3]), ("set", []), ("seed", 1.5)]
)
def test_wrong_fields(tmp_path: Path, field: str, value: object) -> None:
    root = tmp_path / "team.masc"
    write_artifact(root, program())
    body = json.loads((root / "manifest.json").read_text())
    (root / "manifest.json").write_text(json.dumps(body | {field: value}))
    assert code(lambda: read_artifact(root)) == "E0511"


def test_a_plan_that_is_not_the_manifests(tmp_path: Path) -> None:
    write_artifact(tmp_path / "a.masc", program())
    write_artifact(tmp_path / "b.masc", program(3))
    (tmp_path / "b.masc" / "plan.json").replace(tmp_path / "a.masc" / "plan.json")
    assert code(lambda: read_artifact(tmp_path / "a.masc")) == "E0514"


def test_no_artifact(tmp_path: Path) -> None:
    assert code(lambda: read_artifact(tmp_path)) == "E0510"
    (tmp_path / "file").touch()
    assert code(lambda: read_artifact(tmp_path / "file")) == "E0510"


def test_other_versions_are_a_warning(tmp_path: Path) -> None:
    root = tmp_path / "team.masc"
    trained(root, program())
    body = json.loads((root / "manifest.json").read_text())
    body["versions"]["masc"] = "0.0.1"
    (root / "manifest.json").write_text(json.dumps(body))
    assert [d.code for d in read_artifact(root).warnings] == ["W0501"]


def test_locate(tmp_path: Path) -> None:
    text = source("a/2 b!", "a -> b : kv").text
    assert code(lambda: locate(None, tmp_path)) == "E0515"
    file = tmp_path / "team.mas"
    file.write_text(text)
    (tmp_path / "other.yaml").write_text("")
    assert locate(None, tmp_path) == locate(Path("team.mas"), tmp_path) == locate(tmp_path) == file
    root = artifact_of(file)
    assert root == tmp_path / "team.masc"
    write_artifact(root, compile_file(file))
    copy = locate(Path("team.masc"), tmp_path)
    assert copy == root / "team.mas"
    assert artifact_of(copy) == root
    assert state(root, compile_file(copy)) == "fresh"
    (tmp_path / "second.mas").write_text(text)
    assert code(lambda: locate(None, tmp_path)) == "E0516"
    assert code(lambda: locate(Path("taem.mas"), tmp_path)) == "E0515"


def test_a_folder_with_one_yaml(tmp_path: Path) -> None:
    (tmp_path / "team.yaml").write_text("")
    assert locate(tmp_path) == tmp_path / "team.yaml"


def test_atomic_write_leaves_no_traces(tmp_path: Path) -> None:
    atomic_write(tmp_path / "deep" / "x", "one")
    atomic_write(tmp_path / "deep" / "x", b"two")
    assert os.listdir(tmp_path / "deep") == ["x"]
    with pytest.raises(TypeError):
        atomic_write(tmp_path / "deep" / "x", 3)  # type: ignore[arg-type]
    assert (tmp_path / "deep" / "x").read_bytes() == b"two"
    assert os.listdir(tmp_path / "deep") == ["x"]


def test_model_hash_sees_every_file(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}" + b"x" * 10)
    first = model_hash(tmp_path)
    assert model_hash(tmp_path) == first
    (tmp_path / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}" + b"x" * 9 + b"y")
    assert model_hash(tmp_path) != first
