"""Folders that hold what is not masc's, links, and copies of imported files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from artifacts import files, program, refusal, save, weights
from masc.compiler.artifact import read_artifact, write_artifact
from masc.compiler.files.writing import atomic_write
from masc.compiler.pipeline import Compilation, compile_file

pytestmark = pytest.mark.usefixtures("no_waiting")


@pytest.mark.parametrize(
    "names",
    [
        ("notes.txt",),
        ("manifest.json", "plan.json", "team.mas"),
        ("adapters/solver/adapter_model.safetensors", "checkpoints/step-000010/state.json"),
        ("plan.json",),
        ("manifest.json",),
        (".git/config",),
        ("team.mas",),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("name", ["out", "out.masc"])
@pytest.mark.parametrize("force", [False, True])
def test_a_folder_of_somebody_else_is_left_alone(
    tmp_path: Path, names: tuple[str, ...], name: str, force: bool
) -> None:
    root = tmp_path / name
    for file in names:
        atomic_write(root / file, '{"name": "theirs", "format": 2, "plan": [], "source": 3}')
    before = files(root)
    assert refusal(lambda: write_artifact(root, program(), force=force))[0] == "E0518"
    assert refusal(lambda: write_artifact(root, program(), anew=True))[0] == "E0518"
    assert refusal(lambda: save(root, "new"))[0] == "E0518"
    del_lock = files(root)
    del_lock.pop(".lock", None)
    assert del_lock == before


def test_a_folder_that_training_left_may_be_saved_into(tmp_path: Path) -> None:
    root = tmp_path / "run"
    atomic_write(root / "checkpoints" / "step-000002" / "state.json", "{}")
    atomic_write(root / "metrics.jsonl", "{}")
    save(root, "new")
    assert weights(root) == {"new"}
    assert (root / "checkpoints" / "step-000002" / "state.json").exists()


def test_own_notes_in_an_artifact_stay(tmp_path: Path) -> None:
    root = tmp_path / "team.masc"
    notes = ("notes.txt", "adapters/notes.txt", "adapters/a/notes.txt", "checkpoints/notes.txt", ".notes.tmp", "a.mas")
    save(root, "old")
    for name in notes:
        atomic_write(root / name, "mine")
    for run in (
        lambda: write_artifact(root, program()),
        lambda: save(root, "new"),
        lambda: write_artifact(root, program(4), force=True),
        lambda: write_artifact(root, program(4), anew=True),
    ):
        run()
        assert all((root / name).read_text() == "mine" for name in notes)
    (root / "manifest.json").unlink()
    write_artifact(root, program(4))
    assert all((root / name).read_text() == "mine" for name in notes)


def test_a_file_in_the_way(tmp_path: Path) -> None:
    root = tmp_path / "team.masc"
    write_artifact(root, program())
    atomic_write(root / "adapters" / "b" / "adapter_model.safetensors", "mine")
    code, message = refusal(lambda: save(root, "new"))
    assert (code, "adapters/b/adapter_model.safetensors" in message) == ("E0518", True)
    assert (root / "adapters" / "b" / "adapter_model.safetensors").read_text() == "mine"
    assert not read_artifact(root).manifest.trained


def test_links_are_not_followed_out_of_an_artifact(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    atomic_write(elsewhere / "a" / "adapter_model.safetensors", "theirs")
    atomic_write(tmp_path / "file", "theirs")
    root = tmp_path / "team.masc"
    write_artifact(root, program())
    (root / "adapters").symlink_to(elsewhere)
    assert refusal(lambda: save(root, "new"))[0] == "E0518"
    (root / "adapters").unlink()
    save(root, "old")
    # A file of masc's that was made a link (so do download caches): the link is replaced, its target stays.
    (root / "channels.safetensors").unlink()
    (root / "channels.safetensors").symlink_to(tmp_path / "file")
    save(root, "new")
    assert weights(root) == {"new"}
    for path in (root / "adapters").rglob("*"):
        if path.is_file():
            path.unlink()
    for name in ("a", "b"):
        (root / "adapters" / name).rmdir()
    (root / "adapters").rmdir()
    (root / "adapters").symlink_to(elsewhere)
    write_artifact(root, program(5), force=True)
    assert files(elsewhere) == {"a/adapter_model.safetensors": b"theirs"}
    assert (tmp_path / "file").read_text() == "theirs"


def test_a_link_where_an_install_would_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is waited for no longer than for any install, and what it leads to stays."""
    monkeypatch.setattr("masc.compiler.artifact.read._PATIENCE", 2.0)
    root = tmp_path / "team.masc"
    write_artifact(root, program())
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "notes").write_text("mine")
    (root / ".masc-install").symlink_to(tmp_path / "own")
    assert read_artifact(root).plan == program().plan
    assert (tmp_path / "own" / "notes").read_text() == "mine"
    assert not (root / ".masc-install").exists()


def test_an_artifact_by_way_of_a_link(tmp_path: Path) -> None:
    save(tmp_path / "real.masc", "old")
    (tmp_path / "team.masc").symlink_to(tmp_path / "real.masc")
    save(tmp_path / "team.masc", "new")
    assert weights(tmp_path / "real.masc") == {"new"}
    assert (tmp_path / "team.masc").is_symlink()
    (tmp_path / "broken.masc").symlink_to(tmp_path / "nowhere")
    assert refusal(lambda: save(tmp_path / "broken.masc", "new"))[0] in ("E0612", "E0518")


ROLES = 'mas 1\nmodel m = "no-one/not-on-disk"\nagent a on m {{ user "{text}" think 2 }}\n'
MAIN = """mas 1
{imports}
model m = "no-one/not-on-disk"
agent b on m {{ user "Say." answer }}
graph g(q) -> answer {{ {edge}b }}
"""


def with_imports(folder: Path, names: dict[str, str]) -> Compilation:
    for name, text in names.items():
        atomic_write(folder / name, ROLES.format(text=text))
    imports = "\n".join(f'import "{name}" (a as a{i})' if i else f'import "{name}" (a)' for i, name in enumerate(names))
    atomic_write(folder / "team.mas", MAIN.format(imports=imports, edge="a -> b : kv "))
    return compile_file(folder / "team.mas")


@pytest.mark.parametrize(
    "name", ["adapters/x.mas", "ADAPTERS/x.mas", "Checkpoints/x.mas", "manifest.json/x.mas", ".lock/x.mas", "Team.mas"]
)
def test_names_that_the_artifact_needs_itself(tmp_path: Path, name: str) -> None:
    compilation = with_imports(tmp_path, {name: "one"})
    artifact = write_artifact(tmp_path / "team.masc", compilation)
    assert [w.code for w in artifact.warnings] == ["W0502"]
    assert {n for n, _ in artifact.manifest.files} == {"team.mas", "plan.json"}
    assert read_artifact(tmp_path / "team.masc") == artifact
    json.loads((tmp_path / "team.masc" / "plan.json").read_text())


def test_copies_of_imports_come_and_go(tmp_path: Path) -> None:
    root = tmp_path / "team.masc"
    write_artifact(root, with_imports(tmp_path, {"roles/one.mas": "one"}))
    assert (root / "roles" / "one.mas").exists()
    atomic_write(root / "two.mas", "mine")
    assert refusal(lambda: write_artifact(root, with_imports(tmp_path, {"two.mas": "two"})))[0] == "E0518"
    (root / "two.mas").unlink()
    write_artifact(root, with_imports(tmp_path, {"two.mas": "two"}))
    assert sorted(files(root)) == [".lock", "manifest.json", "plan.json", "team.mas", "two.mas"]


def test_a_copy_that_was_changed_by_hand(tmp_path: Path) -> None:
    root = tmp_path / "team.masc"
    write_artifact(root, with_imports(tmp_path, {"one.mas": "one"}))
    for name in ("team.mas", "one.mas"):
        text = (root / name).read_text()
        (root / name).write_text(text + "# a note\n")
        changed = with_imports(tmp_path, {"one.mas": "two"} if name == "one.mas" else {"one.mas": "one"})
        code, message = refusal(lambda changed=changed: write_artifact(root, changed))  # type: ignore[misc]
        assert (code, name in message) == ("E0519", True)
        assert (root / name).read_text() == text + "# a note\n"
        write_artifact(root, changed, force=True)
        assert (root / name).read_text() == (tmp_path / name).read_text()
