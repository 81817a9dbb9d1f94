"""The folder `x.masc`: written, read, recompiled, damaged, found."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from masc.compiler.artifact import (
    Artifact,
    ModelRecord,
    artifact_of,
    atomic_write,
    base_of,
    is_artifact,
    locate,
    model_hash,
    read_artifact,
    read_weights,
    save_artifact,
    state,
    write_artifact,
)
from masc.compiler.artifact.manifest import dump_manifest
from masc.compiler.files.writing import check_file
from masc.compiler.forms.essence import fingerprint
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
    assert sorted(os.listdir(root)) == [".lock", "manifest.json", "plan.json", "team.mas"]


def test_states(tmp_path: Path) -> None:
    root = tmp_path / "team.masc"
    assert state(root, program()) == "missing"
    write_artifact(root, program())
    assert state(root, program()) == "fresh"
    assert state(root, program(train="train {\n  steps 9\n}")) == "fresh"
    assert state(root, program(3)) == "stale"


def put(text: bytes, agents: str = "ab", links: bool = False) -> Callable[[Path], None]:
    """What a program does that saves its weights into a folder."""

    def run(folder: Path) -> None:
        for name in agents:
            atomic_write(folder / "adapters" / name / "adapter_model.safetensors", text)
        if links:
            atomic_write(folder / "channels.safetensors", text)

    return run


RECORD = ModelRecord("m", "no-one/not-on-disk", None, "123")


def trained(
    root: Path, compilation: Compilation, text: bytes = b"weights", agents: str = "ab", links: bool = False
) -> Artifact:
    return save_artifact(root, compilation, put(text, agents, links), models=(RECORD,), seed=0, training=None)


def test_an_unchanged_plan_keeps_the_weights(tmp_path: Path) -> None:
    root = tmp_path / "team.masc"
    trained(root, program())
    write_artifact(root, program(train="train {\n  steps 9\n  seed 3\n}"))
    artifact = read_artifact(root)
    assert artifact.manifest.trained
    assert artifact.manifest.seed == 0
    assert artifact.plan.train.steps == 9
    assert read_weights(artifact) == dict.fromkeys(
        [f"adapters/{n}/adapter_model.safetensors" for n in "ab"], b"weights"
    )


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_weights_are_installed_whole(tmp_path: Path) -> None:
    root = tmp_path / "team.masc"
    write_artifact(root, program())
    artifact = trained(root, program(), b"one", links=True)
    assert (artifact.manifest.trained, artifact.manifest.models) == (True, (RECORD,))
    assert artifact == read_artifact(root)
    assert set(read_weights(artifact).values()) == {b"one"}
    artifact = trained(root, program(), b"two", agents="a")
    assert sorted(os.listdir(root)) == [".lock", "adapters", "manifest.json", "plan.json", "team.mas"]
    assert files(root / "adapters") == {"a/adapter_model.safetensors": b"two"}
    assert read_weights(read_artifact(root)) == {"adapters/a/adapter_model.safetensors": b"two"}


@pytest.mark.parametrize("links", [False, True])
def test_a_manifest_lists_what_is_there(tmp_path: Path, links: bool) -> None:
    root = tmp_path / "team.masc"
    artifact = trained(root, program(), links=links)
    expected = {name: hashlib.sha256(data).hexdigest() for name, data in files(root).items()}
    del expected["manifest.json"], expected[".lock"]
    assert dict(artifact.manifest.files) == expected


def test_other_weights_are_noticed(tmp_path: Path) -> None:
    root = tmp_path / "team.masc"
    artifact = trained(root, program())
    (root / "adapters" / "b").rename(root / "adapters" / "c")
    assert code(lambda: read_weights(artifact)) == "E0617"
    (root / "adapters" / "c").rename(root / "adapters" / "b")
    read_weights(artifact)
    (root / "adapters" / "b" / "adapter_model.safetensors").write_bytes(b"weight5")
    assert code(lambda: read_weights(artifact)) == "E0617"


def test_weights_are_forgotten(tmp_path: Path) -> None:
    root = tmp_path / "team.masc"
    trained(root, program())
    atomic_write(root / "checkpoints" / "step-000002" / "state.json", "{}")
    atomic_write(root / "adapters" / "notes.txt", "mine")
    atomic_write(root / "checkpoints" / "notes.txt", "mine")
    forgotten = write_artifact(root, program(), anew=True)
    assert forgotten == read_artifact(root)
    assert not forgotten.manifest.trained
    names = ["adapters/notes.txt", "checkpoints/notes.txt"]
    assert sorted(files(root)) == [".lock", *names, "manifest.json", "plan.json", "team.mas"]


def test_a_lost_manifest_is_made_again(tmp_path: Path) -> None:
    root = tmp_path / "team.masc"
    before = read_weights(trained(root, program()))
    for damage in (None, "{", '{"format": 99}', "[" * 200_000):
        (root / "manifest.json").unlink()
        if damage:
            (root / "manifest.json").write_text(damage)
        assert code(lambda: write_artifact(root, program(3))) == "E0513"
        write_artifact(root, program())
        assert read_artifact(root).manifest.trained
        assert read_weights(read_artifact(root)) == before
    (root / "manifest.json").unlink()
    write_artifact(root, program(3), force=True)
    assert sorted(files(root)) == [".lock", "manifest.json", "plan.json", "team.mas"]
    (root / "manifest.json").unlink()
    write_artifact(root, program(3))
    assert not read_artifact(root).manifest.trained


def test_an_artifact_of_the_first_format_keeps_its_weights(tmp_path: Path) -> None:
    root = tmp_path / "team.masc"
    before = read_weights(trained(root, program(), links=True))
    body = json.loads((root / "manifest.json").read_text())
    for name in ("files", "made_by", "training", "init_from"):
        del body[name]
    (root / "manifest.json").write_text(json.dumps(body | {"format": 1, "weights": "0" * 64}))
    assert code(lambda: read_artifact(root)) == "E0512"
    write_artifact(root, program())
    assert read_weights(read_artifact(root)) == before
    assert not write_artifact(root, program(3), force=True).manifest.trained
    assert sorted(files(root)) == [".lock", "manifest.json", "plan.json", "team.mas"]


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
    atomic_write(artifact.layout.checkpoints / "step-000050" / "state.json", b"")
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
    ("manifest.json", '{"format": 2}', "E0511"),
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
    ("field", "value"),
    [
        ("trained", "yes"),
        ("source", "../x.mas"),
        ("models", [3]),
        ("models", []),
        ("models", [{"name": "other", "target": "x"}]),
        ("set", []),
        ("seed", 1.5),
        ("seed", -1),
        ("seed", 2**63),
        ("files", {"adapters/a/adapter_model.safetensors": "0" * 64}),
    ],
    ids=str,
)
def test_wrong_fields(tmp_path: Path, field: str, value: object) -> None:
    root = tmp_path / "team.masc"
    write_artifact(root, program())
    body = json.loads((root / "manifest.json").read_text())
    (root / "manifest.json").write_text(json.dumps(body | {field: value}))
    assert code(lambda: read_artifact(root)) == "E0511"


def test_an_entry_that_stands_there_twice(tmp_path: Path) -> None:
    """The last one would win, and weights be taken for none."""
    root = tmp_path / "team.masc"
    write_artifact(root, program())
    path = root / "manifest.json"
    path.write_text(path.read_text().rstrip().removesuffix("}") + ', "trained": true}')
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
    (tmp_path / "relay.masc").mkdir()
    with pytest.raises(MascError) as error:
        read_artifact(tmp_path / "rely.masc")
    assert error.value.diagnostics[0].hint == "did you mean `relay.masc`?"


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


@pytest.mark.parametrize("damage", ["{", None])
def test_an_artifact_of_any_name_is_known_by_its_plan(tmp_path: Path, damage: str | None) -> None:
    root = tmp_path / "team"
    write_artifact(root, program())
    assert is_artifact(root)
    if damage is not None:
        (root / "manifest.json").write_text(damage)
    assert is_artifact(root)


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


@pytest.mark.parametrize(
    "name",
    ["tokenizer.json", "chat_template.jinja", "additional_chat_templates/default.jinja", "vocab.txt", "spiece.model"],
)
def test_model_hash_sees_what_a_model_is_made_of(tmp_path: Path, name: str) -> None:
    before = model_hash(tmp_path)
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("1")
    written = model_hash(tmp_path)
    (tmp_path / name).write_text("2")
    assert len({before, written, model_hash(tmp_path)}) == 3


def test_model_hash_leaves_out_what_no_model_is_made_of(tmp_path: Path) -> None:
    """Nor does it wait for a pipe that lies there."""
    (tmp_path / "config.json").write_text("{}")
    before = model_hash(tmp_path)
    for name in ("notes.txt", "trainer_state.json", "README.md", "adapter_model.safetensors"):
        (tmp_path / name).write_text("x")
    os.mkfifo(tmp_path / "log.json")
    os.mkfifo(tmp_path / "more.safetensors")
    (tmp_path / "results.json").mkdir()
    (tmp_path / "added_tokens.json").symlink_to("nowhere")
    assert model_hash(tmp_path) == before
    os.mkfifo(tmp_path / "vocab.json")
    with pytest.raises(OSError, match="pipe"):
        model_hash(tmp_path)


def test_an_earlier_manifest_counts_how_answers_are_decoded(tmp_path: Path) -> None:
    """Its fingerprint held the decoding: the same graph still fits it."""
    compilation = program()
    artifact = write_artifact(tmp_path / "a.masc", compilation)
    older = replace(artifact.manifest, fingerprint=fingerprint(compilation.require(), decoding=True))
    atomic_write(artifact.layout.manifest, dump_manifest(older))
    assert state(tmp_path / "a.masc", compilation) == "fresh"
    assert read_artifact(tmp_path / "a.masc").plan == compilation.require()
