"""Artifacts while others write them, writers that are killed, and folders that hold what is not masc's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from masc.compiler.artifact import read_artifact, read_weights, save_artifact, write_artifact, writing
from masc.compiler.artifact.layout import Layout
from masc.compiler.artifact.read import settle
from masc.compiler.files.writing import atomic_write
from masc.compiler.pipeline import Compilation, compile_file, compile_source
from masc.dsl.diagnostics import MascError, errors
from masc.dsl.source import Source
from teams import source


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is on the disk after the power fails is not tested here, and waiting for it takes most of the time."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr("masc.compiler.artifact.read._MOMENT", 0.02)


def program(latents: int = 2) -> Compilation:
    return compile_source(Source("team.mas", source(f"a/{latents} b!", "a -> b : kv").text))


def save(root: Path, text: str, latents: int = 2) -> None:
    def put(folder: Path) -> None:
        for name in ("a", "b"):
            atomic_write(folder / "adapters" / name / "adapter_model.safetensors", f"{text} {name}")
        atomic_write(folder / "channels.safetensors", text)

    save_artifact(root, program(latents), put, models=(), seed=0, training=None)


def weights(root: Path) -> set[str]:
    """The first word of each file of weights."""
    return {data.decode().split()[0] for data in read_weights(read_artifact(root)).values()}


def refusal(run: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(MascError) as caught:
        run()
    found = errors(caught.value.diagnostics)[0]
    return found.code, found.message


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


# -- readers ----------------------------------------------------------------------------------------------------------


def test_readers_beside_a_writer_never_see_a_mix(tmp_path: Path) -> None:
    root = tmp_path / "team.masc"
    save(root, "0")
    ended = threading.Event()

    failed: list[BaseException] = []

    def write() -> None:
        number = 0
        try:
            while not ended.is_set():
                number += 1
                save(root, str(number))
        except BaseException as error:
            failed.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen = []
        for _ in range(200):
            (number,) = weights(root)
            seen.append(int(number))
    finally:
        ended.set()
        writer.join()
    assert not failed, "a reader was in the writer's way"
    assert seen == sorted(seen)
    assert seen[-1] > seen[0], "nothing was written meanwhile"


def test_a_plan_that_changes_beside_a_reader(tmp_path: Path) -> None:
    root = tmp_path / "team.masc"
    write_artifact(root, program(0))
    ended = threading.Event()

    def write() -> None:
        number = 0
        while not ended.is_set():
            number += 1
            write_artifact(root, program(number % 50))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        found = {read_artifact(root).manifest.fingerprint for _ in range(60)}
    finally:
        ended.set()
        writer.join()
    assert len(found) > 1


def test_weights_of_a_graph_that_is_no_longer_there(tmp_path: Path) -> None:
    root = tmp_path / "team.masc"
    save(root, "old")
    before = read_artifact(root)
    write_artifact(root, program(3), force=True)
    assert refusal(lambda: read_weights(before))[0] == "E0642"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_artifact_that_may_only_be_read(tmp_path: Path) -> None:
    root = tmp_path / "team.masc"
    save(root, "old")
    root.chmod(0o555)
    try:
        assert weights(root) == {"old"}
    finally:
        root.chmod(0o755)


# -- writers that are killed ------------------------------------------------------------------------------------------


def killed_at(number: int, run: Callable[[], object]) -> bool:
    """Run it in a process that ends, as by SIGKILL, before its `number`th change of a folder; whether it came so far.
    Nothing of what would clean up runs."""
    child = os.fork()
    if child == 0:
        left = [number]

        def counted(function: Callable[..., object]) -> Callable[..., object]:
            def call(*arguments: object, **options: object) -> object:
                left[0] -= 1
                if left[0] < 0:
                    os._exit(9)
                return function(*arguments, **options)

            return call

        try:
            for name in ("rename", "replace", "unlink", "rmdir", "mkdir", "remove"):
                setattr(os, name, counted(getattr(os, name)))
            run()
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


def points(run: Callable[[], object], prepare: Callable[[], object]) -> Iterator[int]:
    for number in range(1000):
        prepare()
        if not killed_at(number, run):
            return
        yield number
    raise AssertionError("it never ended")


@pytest.mark.parametrize("first", ["reader", "writer"])
def test_a_killed_save_leaves_the_old_or_the_new(tmp_path: Path, first: str) -> None:
    import shutil

    root, template = tmp_path / "team.masc", tmp_path / "template"
    save(template, "old")

    def prepare() -> None:
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(template, root)

    found = []
    for _ in points(lambda: save(root, "new"), prepare):
        if first == "writer":
            write_artifact(root, program())
        (word,) = weights(root)
        found.append(word)
        assert read_artifact(root).manifest.trained
        save(root, "last")
        assert weights(root) == {"last"}
        names = {name for name in files(root) if not name.startswith(("adapters/", "channels"))}
        assert names == {".lock", "manifest.json", "plan.json", "team.mas"}, "nothing is left of the killed one"
    assert found == sorted(found, reverse=True)  # first the old, then the new
    assert set(found) == {"old", "new"}


def test_what_is_pending_is_read_where_nothing_may_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    root, template = tmp_path / "team.masc", tmp_path / "template"
    save(template, "old")

    def prepare() -> None:
        monkeypatch.undo()
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(template, root)

    for _ in points(lambda: save(root, "new"), prepare):
        monkeypatch.setattr("masc.compiler.artifact.read.os.access", lambda *_: False)
        assert len(weights(root)) == 1


def test_a_killed_first_compile_is_no_obstacle(tmp_path: Path) -> None:
    import shutil

    root = tmp_path / "saved"

    def prepare() -> None:
        shutil.rmtree(root, ignore_errors=True)

    for _ in points(lambda: write_artifact(root, program()), prepare):
        write_artifact(root, program())
        assert sorted(files(root)) == [".lock", "manifest.json", "plan.json", "team.mas"]


def test_a_killed_compile_of_another_graph(tmp_path: Path) -> None:
    import shutil

    root, template = tmp_path / "team.masc", tmp_path / "template"
    save(template, "old")
    atomic_write(template / "notes.txt", "mine")

    def prepare() -> None:
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(template, root)

    for _ in points(lambda: write_artifact(root, program(5), force=True), prepare):
        artifact = read_artifact(root)
        assert artifact.manifest.trained == (artifact.plan == program().plan)
        read_weights(artifact)
        write_artifact(root, program(6), force=True)
        assert sorted(files(root)) == [".lock", "manifest.json", "notes.txt", "plan.json", "team.mas"]


def test_a_failed_save_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "team.masc"
    save(root, "old")
    before = files(root)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("masc.compiler.artifact.install.atomic_write", full)
        assert refusal(lambda: save(root, "new"))[0] == "E0612"
    assert files(root) == before


# -- one writer -------------------------------------------------------------------------------------------------------

HOLD = """
import sys, time
from pathlib import Path
from masc.compiler.artifact import writing
with writing(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(300)
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds `team.masc`."""
    save(tmp_path / "team.masc", "old")
    command = [sys.executable, "-c", HOLD, str(tmp_path / "team.masc"), "--some", "option"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_the_second_is_told_who_holds_it(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    root = tmp_path / "team.masc"
    (tmp_path / "link").symlink_to(root)
    for place in (root, tmp_path / "link"):
        for run in (lambda p=place: save(p, "new"), lambda p=place: write_artifact(p, program(3), force=True)):
            code, message = refusal(run)
            assert code == "E0641"
            assert f"process {holder.pid} on " in message
            assert "--some option" in message
            assert "since 20" in message
    assert weights(root) == {"old"}, "reading needs no lock"
    holder.kill()
    holder.wait()
    save(root, "new")  # what a dead process held is nobody's
    assert weights(root) == {"new"}
    assert not (root / ".lock.json").exists()


def test_whoever_waits_gets_it(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    threading.Timer(0.5, holder.kill).start()
    with writing(tmp_path / "team.masc", wait=60):
        pass


def test_threads_of_one_process(tmp_path: Path) -> None:
    root = tmp_path / "team.masc"
    with writing(root), writing(root):  # once more in the same thread
        save(root, "old")
        found: list[str] = []
        other = threading.Thread(target=lambda: found.append(refusal(lambda: save(root, "new"))[0]))
        other.start()
        other.join()
        assert found == ["E0641"]
    save(root, "new")


def test_other_ranks_know_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    from masc.compiler.artifact import is_other_rank

    for rank, world, expected in [("0", "2", False), ("1", "2", True), ("1", "1", False), ("", "", False)]:
        monkeypatch.setenv("RANK", rank)
        monkeypatch.setenv("WORLD_SIZE", world)
        assert is_other_rank() == expected


def test_a_damaged_note_of_the_holder(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    root = tmp_path / "team.masc"
    for text in ("", "[]", "[" * 100_000, '{"process": "x", "host": 1, "command": [], "since": 0}'):
        (root / ".lock.json").write_text(text)
        assert refusal(lambda: save(root, "new"))[0] == "E0641"


# -- what is not masc's -----------------------------------------------------------------------------------------------


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


def test_what_killed_writers_left_goes_and_nothing_else(tmp_path: Path) -> None:
    root = tmp_path / "team.masc"
    save(root, "old")
    ours = [".masc-staged-77/x", ".tmp-weights-9/adapters/x", ".tmp-weights-old-9/x", ".manifest.json.0a1b2c3d.tmp"]
    theirs = [".masc-staged-mine/x", ".tmp-weights-mine", ".notes.0a1b2c3d.tmp", "x.tmp"]
    for name in ours + theirs:
        atomic_write(root / name, "x")
    assert weights(root) == {"old"}
    assert all((root / name).exists() for name in ours), "whoever reads deletes nothing"
    save(root, "new")
    assert not any((root / name).exists() for name in ours)
    assert all((root / name).exists() for name in theirs)


def test_settling_waits_for_a_live_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "team.masc"
    save(root, "old")
    with writing(root):
        (root / ".masc-install").mkdir()

        def later() -> None:
            time.sleep(0.2)
            (root / ".masc-install").rmdir()

        mover = threading.Thread(target=later)
        mover.start()
        reader = threading.Thread(target=lambda: settle(Layout(root)))
        reader.start()
        reader.join(20)
        assert not reader.is_alive()
        assert not (root / ".masc-install").exists()
        mover.join()
