"""What a user can do wrong or unluckily: no traceback, nothing lost, nothing mixed up."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from courier import GRAPH, ROWS, Command

STEPS = ("--set", "steps=2")
WEIGHTS = "adapters/sender/adapter_model.safetensors"


def adapters(root: Path) -> dict[str, bytes]:
    found = {str(p.relative_to(root)): p.read_bytes() for p in root.glob("adapters/*/*.safetensors")}
    assert found
    return found


def manifest(root: Path) -> dict[str, object]:
    body = json.loads((root / "manifest.json").read_text())
    assert isinstance(body, dict)
    return body


# -- artifacts of any name and anywhere -------------------------------------------------------------------------------


def test_an_artifact_of_another_name(masc: Command, folder: Path) -> None:
    """Its `--set` and its weights are those of the folder, not of some `saved/courier.masc`."""
    assert masc("compile", "-o", "saved", "--set", "latents=5").code == 0
    assert masc("train", "saved", *STEPS).code == 0
    assert manifest(folder / "saved")["set"] == {"latents": "5", "steps": "2"}
    assert (folder / "saved" / WEIGHTS).exists()
    assert sorted(p.name for p in folder.glob("**/*.masc")) == []
    assert "not trained" not in masc("eval", "saved").err


def test_saved_and_loaded_under_relative_paths(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import masc

    program = masc.compile("courier.mas", device="cpu", set={"latents": 3})
    masc.train(program, ROWS, steps=2)
    program.save("saved")
    program.save("out/r.masc")
    expected = program.generate(ROWS)
    monkeypatch.chdir("/")
    for name in ("saved", "out/r.masc"):
        loaded = masc.load(folder / name, device="cpu", dtype="float32")
        state, again = (p.state_dict(trainable_only=True) for p in (program, loaded))
        assert all(state[key].equal(again[key]) for key in state)
        assert loaded.generate(ROWS) == expected


def test_a_project_that_was_moved(masc: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = folder / "project"
    project.mkdir()
    for name in ("tiny", "courier.mas", "train.jsonl", "test.jsonl"):
        (folder / name).rename(project / name)
    assert masc("compile", project, "-o", project / "other/x.masc", "--set", "latents=5").code == 0
    assert masc("train", project / "other/x.masc", *STEPS).code == 0
    project.rename(folder / "moved")
    monkeypatch.chdir("/")
    done = masc("eval", folder / "moved/other/x.masc")
    assert done.code == 0, done.err
    assert "not trained" not in done.err


def test_an_artifact_may_not_take_the_place_of_its_source(masc: Command, folder: Path) -> None:
    refused = masc("compile", "-o", ".")
    assert (refused.code, "E0612" in refused.err) == (1, True)
    (folder / "manifest.json").write_text('{"name": "of something else"}')
    assert masc("check").code == 0, "a manifest.json of somebody else makes no artifact"


# -- weights ----------------------------------------------------------------------------------------------------------


def test_half_replaced_weights_are_refused(masc: Command, folder: Path) -> None:
    assert masc("train", *STEPS).code == 0
    path = folder / "courier.masc" / WEIGHTS
    save_file({name: tensor + 1 for name, tensor in load_file(path).items()}, path)
    result = masc("eval")
    assert (result.code, "E0617" in result.err) == (1, True)
    assert masc("train", "--resume").code == 0
    assert masc("eval").code == 0


def test_force_trains_anew(masc: Command, folder: Path) -> None:
    root = folder / "courier.masc"
    assert masc("train", *STEPS).code == 0
    first = adapters(root)
    assert masc("train", *STEPS, "--set", "seed=7", "--force").code == 0
    assert adapters(root) != first
    assert masc("train", *STEPS, "--set", "seed=0", "--force").code == 0
    assert adapters(root) == first
    assert masc("eval").code == 0


def test_force_forgets_in_the_manifest_first(masc: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = folder / "courier.masc"
    assert masc("train", *STEPS).code == 0

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("masc.training.progress.go", killed)
    assert masc("train", "--force").code == 130
    assert not manifest(root)["trained"]
    assert not list(root.glob("adapters/*"))


def test_a_refused_train_changes_nothing(masc: Command, folder: Path) -> None:
    root = folder / "courier.masc"
    assert masc("train", *STEPS).code == 0
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    assert masc("train", "--set", "batch=3").code == 1
    (folder / "train.jsonl").write_text("{broken")
    assert masc("train", "--force").code == 1
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("damage", ["{", '{"format": 0}', None])
def test_a_damaged_manifest_is_rebuilt(masc: Command, folder: Path, damage: str | None) -> None:
    root = folder / "courier.masc"
    assert masc("train", *STEPS).code == 0
    before = adapters(root)
    (root / "manifest.json").unlink()
    if damage is not None:
        (root / "manifest.json").write_text(damage)
        assert masc("eval").code == 1
        assert masc("compile", root).code == 0, "by way of the artifact as well"
        (root / "manifest.json").write_text(damage)
    assert masc("compile").code == 0
    assert adapters(root) == before
    assert "not trained" not in masc("eval").err
    (root / "manifest.json").write_text("{")
    (folder / "courier.mas").write_text(GRAPH.replace("int = 2", "int = 3"))
    assert "E0513" in masc("compile").err
    assert adapters(root) == before


def test_a_remembered_set_can_be_forgotten(masc: Command, folder: Path) -> None:
    assert masc("compile", "--set", "latents=5").code == 0
    (folder / "courier.mas").write_text(GRAPH.replace("param latents: int = 2\n", "").replace("latents\n", "2\n"))
    for command in ("train", "eval"):
        result = masc(command)
        assert result.code == 1
        assert "remembered" in result.err
    assert masc("compile").code == 0
    assert manifest(folder / "courier.masc")["set"] == {}


# -- files of answers -------------------------------------------------------------------------------------------------


RUN = ("run", "--data", "test.jsonl", "--device", "cpu", "--dtype", "float32")


def interrupted(masc: Command, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Run into `out.jsonl`, stopped after so many answers."""
    from masc.backends.torch.evaluation.answering import Here

    whole = Here.said

    def stopped(*arguments: object, **options: object) -> object:
        for i, answer in enumerate(whole(*arguments, **options)):  # type: ignore[arg-type]
            if i == after:
                raise KeyboardInterrupt
            yield answer

    with monkeypatch.context() as patched:
        patched.setattr(Here, "said", stopped)
        assert masc(*RUN, "--out", "out.jsonl", "--batch", 1).code == 130


def test_a_stopped_run_goes_on(masc: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"code": "grün €" * (i + 1)} for i in range(4)]
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert masc(*RUN, "--out", "whole.jsonl", "--batch", 1).code == 0
    interrupted(masc, monkeypatch, after=2)
    partial = folder / "out.jsonl.partial"
    lines = partial.read_bytes().splitlines(keepends=True)
    assert len(lines) == 3
    said = json.loads(lines[1])
    said["said"]["answer"] = "kept €"
    # The last line is cut inside a character.
    cut = json.dumps({"index": 0, "said": {"answer": "€"}}, ensure_ascii=False).encode()
    partial.write_bytes(lines[0] + json.dumps(said, ensure_ascii=False).encode() + b"\n" + cut[:-5])
    result = masc(*RUN, "--out", "out.jsonl", "--batch", 1)
    assert result.code == 0, result.err
    assert not partial.exists()
    expected = [json.loads(line) for line in (folder / "whole.jsonl").read_text().splitlines()]
    expected[said["index"]]["answer"] = "kept €"
    assert [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()] == expected


def test_a_stopped_run_is_not_mixed_with_another(masc: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted(masc, monkeypatch, after=2)
    out = ("--out", "out.jsonl")
    assert "E0612" in masc(*RUN[:-1], "bfloat16", *out).err
    assert "E0612" in masc(*RUN, *out, "--cut", "sender:receiver").err
    assert masc("train", *STEPS, "--device", "cpu").code == 0
    assert "E0612" in masc(*RUN, *out).err, "other weights"
    (folder / "out.jsonl.partial").write_text('{"somebody": "else"}\n')
    assert "E0612" in masc(*RUN, *out).err


# -- usage and outputs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "--resume", "--force"),
        ("train", "--scorer", "code"),
        ("train", "--scorer", "exakt"),
        ("train", "--tracker", "nonsense"),
        ("train", "--tracker", "comet_ml"),
        ("train", "--device", "nonsense"),
        ("train", "--device", "cuda:99"),
        ("eval", "--scorer", "exakt"),
        ("eval", "--dtype", "float8"),
        ("run", "--input", "code=1", "--dtype", "float8"),
        ("run", "--input", "code=1", "--device", "meta"),
        ("run", "--input", "code"),
        ("run", "--data", "test.jsonl"),
    ],
    ids=" ".join,
)
def test_wrong_options_are_refused_before_any_work(masc: Command, folder: Path, arguments: tuple[str, ...]) -> None:
    result = masc(*arguments)
    assert result.code == 2, result.err
    assert "Traceback" not in result.err
    assert not (folder / "courier.masc").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("compile", "-o", "test.jsonl"),
        ("compile", "-o", "test.jsonl/z"),
        ("eval", "--out", "tiny"),
        ("eval", "--items", "tiny"),
        ("eval", "--out", "test.jsonl/z"),
        ("eval", "--out", "/dev/null"),
        ("run", "--data", "test.jsonl", "--out", "test.jsonl/z"),
        ("run", "--data", "test.jsonl", "--out", "tiny"),
        ("run", "--data", "test.jsonl", "--out", "x" * 300),
        ("draw", "-o", "test.jsonl/z.svg"),
        ("draw", "-o", "nowhere/z.svg"),
    ],
    ids=lambda arguments: " ".join(arguments)[:40],
)
def test_outputs_are_checked_first(
    masc: Command, folder: Path, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("masc.backends.torch.build.build", None)  # nothing may be loaded
    result = masc(*arguments)
    assert (result.code, "E0612" in result.err) == (1, True), result.err


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("run", "--input", "cod=1"), "E0604", "did you mean `code`?"),
        (("run", "--input", "code=1", "--cut", "a:b"), "E0317", "sender:receiver"),
        (("run", "--data", "nowhere.jsonl", "--out", "o"), "E0601", "nowhere.jsonl"),
        (("eval", "--data", "tset.jsonl"), "E0601", "did you mean `test.jsonl`?"),
        (("eval", "--output", "anser"), "E0611", "did you mean `answer`?"),
        (("eval", "--scorer", "code"), "E0611", "--allow-code-execution"),
        (("train", "--set", "rate=1e39"), "E0404", "at most 1000"),
        (("train", "--eval-data", "nowhere.jsonl"), "E0601", "nowhere.jsonl"),
        (("models", "fetch", "./nowhere"), "E0502", "nowhere"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else value,
)
def test_input_is_checked_before_a_model_is_loaded(
    masc: Command, folder: Path, arguments: tuple[str, ...], code: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("masc.backends.torch.build.build", None)
    result = masc(*arguments)
    assert result.code == 1, result.err
    assert code in result.err
    assert told in result.err


def test_a_missing_input_is_told(masc: Command, folder: Path) -> None:
    (folder / "courier.mas").write_text(
        GRAPH.replace("courier(code)", "courier(code, kind)").replace('"Code?"', '"{kind}?"')
    )
    result = masc("run", "--input", "code=1")
    assert (result.code, "E0604" in result.err) == (1, True)
    assert '--input kind="..."' in result.err


def test_a_graph_without_inputs_runs(masc: Command, folder: Path) -> None:
    (folder / "courier.mas").write_text(GRAPH.replace('"{code}"', '"Think."').replace("courier(code)", "courier()"))
    assert masc("check").code == 0, masc("check").err
    said = masc("run", "--device", "cpu")
    assert said.code == 0, said.err
    assert said.out.endswith("\n")


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (TypeError("of ours"), 3, "masc: internal error: TypeError: of ours"),
        (MemoryError(), 3, "E0702"),
        (PermissionError(13, "Permission denied", "x"), 1, "E0622"),
    ],
)
def test_the_last_resort(
    masc: Command, folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int, told: str
) -> None:
    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr("masc.session.programs.compile_source_of", broken)
    result = masc("check")
    assert (result.code, told in result.err) == (code, True), result.err
    assert "Traceback" not in result.err
    monkeypatch.setenv("MASC_TRACEBACK", "1")
    with pytest.raises(type(error)):
        masc("check")


def test_a_reader_that_leaves(tmp_path: Path) -> None:
    script = f"{sys.executable} -m masc explain E0201 | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=tmp_path)
    assert done.stderr == ""


def test_the_dtypes_are_the_backends() -> None:
    from masc.backends.torch.build import DTYPES
    from masc.session.checks import DTYPES as KNOWN

    assert list(DTYPES) == KNOWN


def test_version_and_module(masc: Command, tmp_path: Path) -> None:
    from masc import __version__

    assert masc("--version").out == f"masc {__version__}\n"
    command = [sys.executable, "-m", "masc", "--version"]
    assert subprocess.run(command, capture_output=True, text=True, cwd=tmp_path).stdout == f"masc {__version__}\n"
