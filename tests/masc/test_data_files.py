"""What a `train` block says of data: is the file there, and has it the columns."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from courier import GRAPH, Command
from masc.compiler.passes.data_files import first_columns
from masc.compiler.pipeline import compile_file
from masc.dsl.diagnostics import Diagnostic


def said(folder: Path, text: str) -> list[Diagnostic]:
    (folder / "courier.mas").write_text(text)
    return [d for d in compile_file(folder / "courier.mas").diagnostics if d.code in ("W0215", "W0216")]


def test_data_that_fits_is_nothing_to_speak_of(folder: Path) -> None:
    assert said(folder, GRAPH) == []


def test_a_file_that_is_not_there(folder: Path) -> None:
    (found,) = said(folder, GRAPH.replace('"train.jsonl"', '"trian.jsonl"'))
    assert found.code == "W0215"
    assert found.span is not None
    assert found.span.text == '"trian.jsonl"'
    (found,) = said(folder, GRAPH.replace('"test.jsonl"', '"gone/test.jsonl"'))
    assert "--eval-data" in (found.hint or "")


def test_a_link_to_nothing_is_called_one(folder: Path) -> None:
    (folder / "train.jsonl").unlink()
    (folder / "train.jsonl").symlink_to(folder / "gone.jsonl")
    (found,) = said(folder, GRAPH)
    assert found.code == "W0215"
    assert f"it is a link to `{folder / 'gone.jsonl'}`, which is not there" in found.message


def test_evaluations_need_data_from_somewhere(masc: Command, folder: Path) -> None:
    without = GRAPH.replace('  eval_data "test.jsonl"\n', "").replace("steps 6", "steps 1  eval_every 1")
    (folder / "courier.mas").write_text(without)
    assert "W0217" in masc("check").err
    assert "W0217" in masc("train").err
    named = masc("train", "--eval-data", "test.jsonl", "--force")
    assert named.code == 0, named.err
    assert "W0217" not in named.err


def test_a_column_that_supervises(folder: Path) -> None:
    found, *_ = said(folder, GRAPH.replace("answer <- word", "answer <- wrod"))
    assert (found.code, found.hint) == ("W0216", "did you mean `word`?")
    assert found.span is not None
    assert found.span.text == "wrod"
    without = said(folder, GRAPH.replace("  answer <- word\n", ""))
    assert [d.span and d.span.line for d in without] == [18, 18], "where the output is named; of either file"


def test_an_input(folder: Path) -> None:
    found = said(folder, GRAPH.replace("code", "cod"))
    assert {(d.code, d.span and d.span.text) for d in found} == {("W0216", "cod")}


def test_training_says_it_once_at_the_line_of_the_graph(masc: Command, folder: Path) -> None:
    (folder / "courier.mas").write_text(GRAPH.replace("answer <- word", "answer <- wrod"))
    (folder / "train.jsonl").write_text('{"code": "1", "word": "a"}\n' * 50)
    refused = masc("train")
    assert refused.code == 1
    assert refused.err.count("E0604") == 1
    assert "courier.mas:25:13" in refused.err
    assert masc("train", "--column", "wrod=word", "--set", "steps=1").code == 0


def rows(count: int = 2) -> list[dict[str, str]]:
    return [{"code": str(i), "word": "a, b"} for i in range(count)]


def table(sign: str = ",") -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, ["code", "word"], delimiter=sign)
    writer.writeheader()
    writer.writerows(rows())
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.jsonl", "\ufeff\n" + json.dumps(rows()[0]) + "\r\n{broken"),
        ("x.json", json.dumps(rows(), indent=1)),
        ("x.csv", table()),
        ("x.csv", table(";")),
        ("x.tsv", table("\t")),
    ],
)
def test_the_first_row(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    assert first_columns(tmp_path / name) == ["code", "word"]


@pytest.mark.parametrize("content", ["", "{", "[", "[]", "[1]", "3\n", "\x1f\x8b\x08", '{"a": ' + "[" * 100_000])
def test_what_cannot_be_told_is_left_to_the_reader(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.jsonl").write_text(content)
    assert first_columns(tmp_path / "x.jsonl") is None


def test_a_long_first_row_and_no_file(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text(json.dumps({"code": "x" * (2 << 20)}))
    assert first_columns(tmp_path / "x.jsonl") is None
    assert first_columns(tmp_path) is None
    assert first_columns(tmp_path / "none\0") is None


@pytest.mark.parametrize("name", ["Gold Answer", "gold-answer", "true", 'the "best"', "Übung"])
def test_a_column_whose_name_is_no_name_of_the_language(masc: Command, folder: Path, name: str) -> None:
    quoted = json.dumps(name, ensure_ascii=False)
    graph = GRAPH.replace("answer <- word", f"answer <- {quoted}")
    for file in ("train.jsonl", "test.jsonl"):
        read = [json.loads(line) for line in (folder / file).read_text().splitlines()]
        (folder / file).write_text("".join(json.dumps({name: row.pop("word"), **row}) + "\n" for row in read))
    assert said(folder, graph) == []
    found, *_ = said(folder, graph.replace(quoted, f'{quoted[:-1]}x"'))
    assert found.code == "W0216"
    (folder / "courier.mas").write_text(graph)
    assert masc("train", "--set", "steps=1").code == 0
    assert masc("fmt", "courier.mas", "--to", "yaml", "-o", "courier.yaml").code == 0
    assert compile_file(folder / "courier.yaml").graph.labels == (("answer", name),)  # type: ignore[union-attr]
