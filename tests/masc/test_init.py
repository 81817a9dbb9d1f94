"""`masc init` and `masc new agent`: what they write compiles, and nothing that is there is lost."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from courier import Command
from folders import fill
from masc.commands.starters import SHAPES, TASKS
from masc.compiler.pipeline import compile_file
from masc.compiler.resolve.templates import mentioned
from masc.dsl.read import read
from masc.dsl.syntax import Agent, Graph

FILES = {"train.jsonl", "test.jsonl", "README.md"}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def said(path: Path) -> list[str]:
    """The codes of what is said, but for the model that is not on disk."""
    return [d.code for d in compile_file(path).diagnostics if d.code != "I0501"]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_compiles(masc: Command, here: Path, shape: str, task: str) -> None:
    done = masc("init", "-y", "--shape", shape, "--task", task, "--model", "smollm2-135m", "--name", "team")
    assert done.code == 0, done.err
    assert {path.name for path in (here / "team").iterdir()} == FILES | {"team.mas"}
    assert said(here / "team" / "team.mas") == []
    assert masc("check", "team").code == 0
    assert masc("fmt", "--check", "team").code == 0
    train, test = (
        [json.loads(line) for line in (here / "team" / name).read_text().splitlines()]
        for name in ("train.jsonl", "test.jsonl")
    )
    assert all(row.keys() == {"question", "answer"} for row in [*train, *test])
    assert not {row["question"] for row in train} & {row["question"] for row in test}


def test_nothing_is_overwritten(masc: Command, here: Path) -> None:
    (here / "work").mkdir()
    (here / "work" / "train.jsonl").write_text("mine")
    done = masc("init", "work", "-y")
    assert done.code == 1
    assert "E0640" in done.err
    assert [path.name for path in (here / "work").iterdir()] == ["train.jsonl"]
    assert (here / "work" / "train.jsonl").read_text() == "mine"


def test_three_questions(masc: Command, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("pnel\npanel\nsmolm\n\nletters\n"))
    done = masc("init", "--name", "asked")
    assert done.code == 0, done.err
    assert "did you mean `panel`?" in done.err
    assert "there is no model `smolm`" in done.err
    text = (here / "asked" / "asked.mas").read_text()
    assert "expert(field: text)" in text
    assert "Answer with the word alone." in text


def test_nobody_answers(masc: Command, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    done = masc("init")
    assert done.code == 2
    assert list(here.iterdir()) == []


def test_a_model_in_a_folder_is_found_from_the_new_one(masc: Command, here: Path) -> None:
    (here / "tiny").mkdir()
    config = {"model_type": "llama", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3}
    config |= {"num_attention_heads": 4, "vocab_size": 260, "max_position_embeddings": 512}
    (here / "tiny" / "config.json").write_text(json.dumps(config))
    fill(here / "tiny")
    assert masc("init", "team", "-y", "--model", "tiny").code == 0
    assert 'model base = "../tiny"' in (here / "team" / "team.mas").read_text()
    assert masc("check", "team").code == 0


@pytest.mark.parametrize(
    "arguments",
    [("--shape", "chian"), ("--task", "x"), ("--model", "no such"), ("--name", "a b"), ("--name", "graph")],
)
def test_wrong_usage(masc: Command, here: Path, arguments: tuple[str, ...]) -> None:
    assert masc("init", "-y", *arguments).code == 2
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("form", ["mas", "yaml"])
def test_new_agent(masc: Command, here: Path, form: str) -> None:
    masc("init", "team", "-y")
    path = here / "team" / f"team.{form}"
    if form == "yaml":
        assert masc("fmt", "team", "--to", "yaml", "-o", path).code == 0
    before, _, _ = read(path)
    assert masc("new", "agent", "scribe", path).code == 0
    after, diagnostics, source = read(path)
    assert before is not None
    assert after is not None
    assert source is not None
    assert not diagnostics
    added = [d for d in after.declarations if isinstance(d, Agent) and d.name.text == "scribe"]
    assert [d for d in after.declarations if d not in added] == list(before.declarations)
    assert "# a short name (masc models list)" in source.text
    assert said(path) == ["W0203"]
    graph = next(d for d in after.declarations if isinstance(d, Graph))
    assert "planner" in {name.text for name in mentioned(graph.body)}
    path.write_text(source.text.replace("planner -> critic", "scribe -> planner -> critic"))
    assert said(path) == []


@pytest.mark.parametrize(
    ("name", "code", "exit_code"),
    [
        ("planner", "E0202", 1),
        ("question", "E0202", 1),
        ("weight", "E0203", 1),
        ("a-b", "NAME", 2),
        ("agent", "NAME", 2),
    ],
)
def test_a_name_that_cannot_be(masc: Command, here: Path, name: str, code: str, exit_code: int) -> None:
    masc("init", "team", "-y")
    text = (here / "team" / "team.mas").read_text()
    done = masc("new", "agent", name, "team")
    assert done.code == exit_code
    assert code in done.err
    assert (here / "team" / "team.mas").read_text() == text


def test_new_agent_where_there_is_no_model(masc: Command, here: Path) -> None:
    (here / "a.mas").write_text("mas 1\n")
    assert "E0201" in masc("new", "agent", "scribe").err
    (here / "a.mas").write_text('mas 1\nmodel m = "x/y"\n')
    assert "did you mean `m`" not in masc("new", "agent", "scribe", "--on", "n").err
    assert masc("new", "agent", "scribe", "--on", "m").code == 0
    assert "agent scribe on m" in (here / "a.mas").read_text()
