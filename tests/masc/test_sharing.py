"""`masc push` and `masc pull`, against a hub on this machine."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import hub as hubs
import masc
from artifacts import files
from courier import Command
from hub import Hub, loopback
from masc import sharing

NAME = "ada/courier"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with loopback(monkeypatch) as found:
        yield found


@pytest.fixture(scope="module")
def pristine(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a training leaves: made once."""
    return tmp_path_factory.mktemp("trained")


@pytest.fixture
def trained(masc: Command, folder: Path, pristine: Path) -> Path:
    """A trained artifact in the working folder."""
    root, kept = folder / "courier.masc", pristine / "courier.masc"
    if not kept.exists():
        done = masc("train", "--set", "steps=2", "--set", "save_every=1", "--set", "eval_every=2")
        assert done.code == 0, done.err
        shutil.copytree(root, kept)
        return root
    shutil.copytree(kept, root)
    manifest = json.loads((root / "manifest.json").read_text())
    (root / "manifest.json").write_text(json.dumps(manifest | {"base": str(folder)}))
    return root


def test_what_is_pushed_is_pulled(masc: Command, trained: Path, hub: Hub) -> None:
    (trained / "diary.txt").write_text("mine")
    done = masc("push", "courier.masc", NAME, "--message", "the first")
    assert done.code == 0, done.err
    repository = hub.repositories[NAME]
    assert repository.summaries == ["the first"]
    there = repository.files()
    listed = json.loads((trained / "manifest.json").read_text())["files"]
    assert set(there) == {*listed, "manifest.json", "metrics.jsonl", "README.md", "graph.svg"}
    said = json.loads(there["manifest.json"])
    assert (said["base"], said["way"], said["training"]["data"]) == ("", "..", "train.jsonl"), "not where it lay"

    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1].pop("eval_samples")[0]["gold"]
    assert [json.loads(line) for line in there["metrics.jsonl"].splitlines()] == lines, "rows of data stay here"

    pulled = masc("pull", NAME, "away/friend.masc")
    assert pulled.code == 0, pulled.err
    got = files(trained.parent / "away" / "friend.masc")
    assert got == there
    assert [path.name for path in (trained.parent / "away").iterdir()] == ["friend.masc"]
    shutil.copytree("tiny", "away/tiny")
    rows = [{"code": "11"}, {"code": "22"}]
    assert _answers("away/friend.masc", rows) == _answers("courier.masc", rows)
    address = sharing.push("courier.masc", NAME, revision="second", message="from Python")
    assert address.startswith("http")
    assert repository.summaries[-1] == "from Python"
    assert sharing.pull(NAME, "again.masc", revision="second") == Path("again.masc")
    assert files(trained.parent / "again.masc") == there


def _answers(path: str, rows: list[dict[str, str]]) -> object:
    return masc.load(path, device="cpu", dtype="float32").generate(rows)


def test_the_card(masc: Command, trained: Path, hub: Hub) -> None:
    (trained.parent / "tiny" / "README.md").write_text("---\nlicense: mit\n---\n# tiny\n")
    assert masc("push", "courier.mas", NAME).code == 0
    text = hub.repositories[NAME].files()["README.md"].decode()
    _, head, body = text.split("---\n", 2)
    assert yaml.safe_load(head) == {
        "library_name": "masc",
        "tags": ["masc", "multi-agent", "latent-communication"],
        "license": "mit",
    }
    assert "| sender | small | 2 |" in body
    assert "On 6 rows of `train.jsonl`." in body
    assert "| steps | 2 |" in body
    last = json.loads((trained / "metrics.jsonl").read_text().splitlines()[-1])
    assert f"| accuracy | {last['eval_accuracy']:.4g} |" in body
    assert f"masc pull {NAME}" in body
    assert hub.repositories[NAME].files()["graph.svg"].startswith(b"<svg")


def test_a_push_replaces_what_the_last_one_left(masc: Command, trained: Path, hub: Hub) -> None:
    assert masc("push", "courier.masc", NAME, "--checkpoints", "--private").code == 0
    repository = hub.repositories[NAME]
    assert repository.private
    steps = {name.split("/")[1] for name in repository.files() if name.startswith("checkpoints/")}
    assert steps == {"step-000001", "step-000002"}
    assert masc("pull", NAME, "all.masc", "--checkpoints").code == 0
    assert (trained.parent / "all.masc" / "checkpoints" / "step-000002" / "state.json").is_file()
    assert masc("pull", NAME, "few.masc").code == 0
    assert not (trained.parent / "few.masc" / "checkpoints").exists()

    assert masc("push", "courier.masc", NAME, "--revision", "next").code == 0
    assert not any(name.startswith("checkpoints/") for name in repository.files("next"))
    assert any(name.startswith("checkpoints/") for name in repository.files("main"))
    assert masc("pull", f"{NAME}@next", "next.masc").code == 0
    assert "has no revision `other`" in masc("pull", f"{NAME}@other", "other.masc").err

    repository.private = False
    refused = masc("push", "courier.masc", NAME, "--private")
    assert (refused.code, "error[E0693]" in refused.err) == (1, True), refused.err


def test_nothing_that_is_there_is_lost(masc: Command, trained: Path, hub: Hub) -> None:
    assert masc("push", "courier.masc", NAME).code == 0
    before = files(trained)
    assert "error[E0612]: `courier.masc` is there already" in masc("pull", NAME).err
    assert "error[E0612]" in masc("pull", NAME, "courier.masc/inside").err
    assert "error[E0518]" in masc("pull", NAME, "tiny", "--force").err + masc("pull", NAME, ".", "--force").err
    assert files(trained) == before
    assert masc("pull", NAME, "--force").code == 0
    assert "checkpoints" not in {path.name for path in trained.iterdir()}
    assert not [path.name for path in trained.parent.iterdir() if path.name.endswith(".tmp")]


def test_what_is_damaged_is_refused(masc: Command, trained: Path, hub: Hub) -> None:
    weights = "adapters/sender/adapter_model.safetensors"
    assert masc("push", "courier.masc", NAME).code == 0
    there = hub.repositories[NAME].files()
    names = {path.name for path in trained.parent.iterdir()}
    for file, code in (
        (weights, "E0617"),
        ("courier.mas", "E0511"),
        ("plan.json", "E0514"),
        ("manifest.json", "E0511"),
    ):
        whole = there[file]
        there[file] = whole.replace(b"e", b"a") if file != "manifest.json" else whole[:-20]
        refused = masc("pull", NAME, "got.masc")
        assert refused.code == 1
        assert f"error[{code}]" in refused.err or (file == "plan.json" and "error[E0511]" in refused.err), refused.err
        assert ".tmp" not in refused.err
        there[file] = whole
    del there["manifest.json"]
    assert f"error[E0510]: `{NAME}` is not an artifact" in masc("pull", NAME, "got.masc").err
    assert {path.name for path in trained.parent.iterdir()} == names

    (trained / weights).write_bytes(b"")
    refused = masc("push", "courier.masc", "ada/other")
    assert (refused.code, "error[E0617]" in refused.err) == (1, True)
    assert "ada/other" not in hub.repositories


def test_what_the_hub_refuses(masc: Command, trained: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, code in (("ada/nothing", "E0692"), ("./folder", "E0692"), ("a/b/c", "E0692")):
        refused = masc("pull", name, "x.masc")
        assert (refused.code, f"error[{code}]" in refused.err) == (1, True), refused.err
    refused = masc("push", "courier.masc", "courier")
    assert (refused.code, "no name of a repository" in refused.err) == (1, True), refused.err
    hub.refuse = 403
    refused = masc("push", "courier.masc", NAME)
    assert (refused.code, "error[E0693]" in refused.err) == (1, True), refused.err
    hub.refuse = None
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    refused = masc("push", "courier.masc", NAME)
    assert (refused.code, "error[E0693]" in refused.err) == (1, True), refused.err
    hubs.point(monkeypatch, "http://127.0.0.1:9")
    for refused in (masc("push", "courier.masc", NAME), masc("pull", NAME, "x.masc")):
        assert (refused.code, "error[E0691]" in refused.err) == (1, True), refused.err
    assert not (trained.parent / "x.masc").exists()
