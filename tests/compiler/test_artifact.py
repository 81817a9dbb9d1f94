"""The folder `x.masc`: written, read, recompiled, damaged, found."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from masc.compiler.artifact import (
    ModelRecord,
    artifact_of,
    atomic_write,
    base_of,
    check_weights,
    forget_weights,
    install_weights,
    is_artifact,
    locate,
    mark_trained,
    model_hash,
    read_artifact,
    state,
    write_artifact,
    write_manifest,
)
from masc.compiler.files import check_file
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


def new_weights(root: Path, text: bytes, agents: str = "ab", links: bool = False) -> Path:
    temporary = root / ".tmp-weights-1"
    for name in agents:
        atomic_write(temporary / "adapters" / name / "adapter_model.safetensors", text)
    if links:
        atomic_write(temporary / "channels.safetensors", text)
    return temporary


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_weights_are_installed_whole(tmp_path: Path) -> None:
    root = tmp_path / "team.masc"
    artifact = write_artifact(root, program())
    record = ModelRecord("m", "no-one/not-on-disk", None, "123")
    artifact = install_weights(artifact, new_weights(root, b"one", links=True), (record,))
    assert (artifact.manifest.trained, artifact.manifest.models) == (True, (record,))
    assert artifact == read_artifact(root)
    check_weights(artifact)
    (root / ".tmp-weights-old-77").mkdir()  # of a process that was killed
    artifact = install_weights(artifact, new_weights(root, b"two", agents="a"), (record,))
    assert sorted(os.listdir(root)) == ["adapters", "manifest.json", "plan.json", "team.mas"]
    assert files(root / "adapters") == {"a/adapter_model.safetensors": b"two"}
    check_weights(artifact)
    write_artifact(root, program(train="train {\n  steps 9\n}"))
    assert read_artifact(root).manifest.weights == artifact.manifest.weights


@pytest.mark.parametrize("links", [False, True])
@pytest.mark.parametrize("step", ["rename", "manifest"])
def test_old_weights_come_back_if_installing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, links: bool
) -> None:
    root = tmp_path / "team.masc"
    artifact = install_weights(write_artifact(root, program()), new_weights(root, b"one", links=not links), ())
    before = files(root)
    temporary = new_weights(root, b"two", links=links)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    if step == "manifest":
        monkeypatch.setattr("masc.compiler.artifact.write_manifest", full)
    else:
        rename = Path.rename
        monkeypatch.setattr(Path, "rename", lambda a, b: full() if a.parent == temporary else rename(a, b))
    with pytest.raises(OSError, match="No space"):
        install_weights(artifact, temporary, ())
    monkeypatch.undo()
    assert {name: data for name, data in files(root).items() if not name.startswith(".tmp-weights-1")} == before
    check_weights(read_artifact(root))


def test_other_weights_are_noticed(tmp_path: Path) -> None:
    root = tmp_path / "team.masc"
    trained(root, program())
    check_weights(read_artifact(root))
    (root / "adapters" / "b").rename(root / "adapters" / "c")
    assert code(lambda: check_weights(read_artifact(root))) == "E0617"
    body = json.loads((root / "manifest.json").read_text())
    del body["weights"], body["way"]
    (root / "manifest.json").write_text(json.dumps(body))
    check_weights(read_artifact(root))  # a manifest from before there was a hash


def test_weights_are_forgotten(tmp_path: Path) -> None:
    root = tmp_path / "team.masc"
    trained(root, program())
    forgotten = forget_weights(read_artifact(root))
    assert forgotten == read_artifact(root)
    assert (forgotten.manifest.trained, forgotten.manifest.weights) == (False, None)
    assert not (root / "adapters").exists()


def test_a_lost_manifest_is_made_again(tmp_path: Path) -> None:
    root = tmp_path / "team.masc"
    trained(root, program())
    for damage in (None, "{", '{"format": 99}'):
        (root / "manifest.json").unlink()
        if damage:
            (root / "manifest.json").write_text(damage)
        assert code(lambda: write_artifact(root, program(3))) == "E0513"
        write_artifact(root, program())
        assert read_artifact(root).manifest.trained
        check_weights(read_artifact(root))
    shutil.rmtree(root / "adapters")
    (root / "manifest.json").unlink()
    write_artifact(root, program())
    assert not read_artifact(root).manifest.trained


def test_the_way_to_the_base(tmp_path: Path) -> None:
    project = tmp_path / "project"
    file = project / "team.mas"
    atomic_write(file, source("a/2 b!", "a -> b : kv").text)
    root = project / "deep" / "out"
    write_artifact(root, compile_file(file))
    assert base_of(read_artifact(root)) == project
    project.rename(tmp_path / "moved")
    assert base_of(read_artifact(tmp_path / "moved/deep/out")) == tmp_path / "moved"
    (tmp_path / "moved/deep/out").rename(tmp_path / "out")
    shutil.rmtree(tmp_path / "moved")
    assert base_of(read_artifact(tmp_path / "out")).is_dir()


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
    root.rename(tmp_path / "saved")
    assert artifact_of(locate(Path("saved"), tmp_path)) == tmp_path / "saved"
    (tmp_path / "manifest.json").write_text("{}")
    assert not is_artifact(tmp_path), "somebody else's"
    (tmp_path / "second.mas").write_text(text)
    assert code(lambda: locate(None, tmp_path)) == "E0516"
    assert code(lambda: locate(Path("taem.mas"), tmp_path)) == "E0515"


def test_a_folder_with_one_yaml(tmp_path: Path) -> None:
    (tmp_path / "team.yaml").write_text("")
    assert locate(tmp_path) == tmp_path / "team.yaml"


def test_what_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "x", tmp_path, tmp_path / "deep" / ("x" * 300)):
        assert code(lambda path=path: atomic_write(path, "")) == "E0612"  # type: ignore[misc]
    for path in (tmp_path / "file" / "x", tmp_path / "file" / "deep" / "x", tmp_path, tmp_path / ("x" * 300)):
        assert code(lambda path=path: check_file(path)) == "E0612"  # type: ignore[misc]
    check_file(tmp_path / "new" / "x")
    check_file(tmp_path / "file")
    assert not (tmp_path / "new").exists()
    assert code(lambda: write_artifact(tmp_path / "file", program())) == "E0612"


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


def test_an_earlier_manifest_counts_how_answers_are_decoded(tmp_path: Path) -> None:
    """Its fingerprint held the decoding: the same graph still fits it."""
    compilation = program()
    artifact = write_artifact(tmp_path / "a.masc", compilation)
    older = replace(artifact.manifest, fingerprint=compilation.require().fingerprint(decoding=True))
    write_manifest(artifact.layout, older)
    assert state(tmp_path / "a.masc", compilation) == "fresh"
    assert read_artifact(tmp_path / "a.masc").plan == compilation.require()
