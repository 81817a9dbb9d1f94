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


OTHER = GRAPH.replace("answer <- word", 'answer <- "Gold Answer"\n  code <- "The Code"').replace(
    '"train.jsonl"', '"rows:train"'
)


def named(folder: Path, count: int = 6) -> None:
    (folder / "rows").mkdir()
    for name in ("train", "test"):
        lines = [json.dumps({"The Code": str(i), "Gold Answer": "a"}) + "\n" for i in range(count)]
        (folder / "rows" / f"{name}.jsonl").write_text("".join(lines))


def test_inputs_and_answers_have_other_names_in_the_data(masc: Command, folder: Path) -> None:
    named(folder)
    text = OTHER.replace('"test.jsonl"', '"rows:test"')
    assert said(folder, text) == []
    (wrong, *_) = said(folder, text.replace("The Code", "The Cod"))
    assert (wrong.code, wrong.span and wrong.span.text, wrong.hint) == (
        "W0216",
        '"The Cod"',
        "did you mean `The Code`?",
    )
    (folder / "courier.mas").write_text(text)
    trained = masc("train", "--set", "steps=1")
    assert trained.code == 0, trained.err
    done = masc("eval", "--out", "said.json")
    assert done.code == 0, done.err
    about = json.loads((folder / "said.json").read_text())["run"]["data"]
    assert about["path"].endswith("rows:test")
    assert len(about["rows_sha256"]) == 64
    assert masc("run", "--data", "rows:test", "--out", "out.jsonl").code == 0
    first = json.loads((folder / "out.jsonl").read_text().splitlines()[0])
    assert list(first) == ["The Code", "Gold Answer", "answer"], "columns as they are in the data"
    (folder / "plain.jsonl").write_text('{"code": "1", "word": "a"}\n')
    assert masc("eval", "--data", "plain.jsonl").code == 1
    done = masc("eval", "--data", "plain.jsonl", "--column", "code=code", "--column", "Gold Answer=word")
    assert done.code == 0, done.err


def test_what_is_read_is_not_written_over(masc: Command, folder: Path) -> None:
    named(folder)
    refused = masc("run", "--data", "rows:test", "--out", "rows/out.jsonl")
    assert "E0612" in refused.err
    assert "a folder whose files are read" in refused.err


def test_compare_and_audit_take_names_of_columns(masc: Command, folder: Path) -> None:
    named(folder)
    (folder / "courier.mas").write_text(GRAPH)
    assert masc("train", "--set", "steps=1").code == 0
    names = ("--column", "code=The Code", "--column", "word=Gold Answer")
    done = masc("audit", "--data", "rows:test", *names)
    assert done.code == 0, done.err
    done = masc("compare", "--rows", "single", "--samples", 0, "--test", "rows:test", *names)
    assert done.code == 0, done.err
    assert masc("audit", "--data", "rows:test", "--column", "cod=x").err.count("E0672") == 1


def test_a_conversation_trains_as_it_is(masc: Command, folder: Path) -> None:
    talk = [{"role": "user", "content": "12"}, {"role": "assistant", "content": "a"}]
    (folder / "train.jsonl").write_text((json.dumps({"messages": talk}) + "\n") * 6)
    (folder / "test.jsonl").write_text((json.dumps({"messages": talk}) + "\n") * 2)
    assert said(folder, GRAPH) == []
    trained = masc("train", "--set", "steps=1")
    assert trained.code == 0, trained.err
    assert masc("run", "--data", "test.jsonl", "--out", "out.jsonl").code == 0
    first = json.loads((folder / "out.jsonl").read_text().splitlines()[0])
    assert list(first) == ["messages", "answer"]
    (folder / "test.jsonl").write_text(json.dumps({"messages": [*talk, *talk]}) + "\n")
    refused = masc("eval")
    assert "error[E0628]: line 1 has a conversation (`messages`) of several turns" in refused.err
    assert masc("eval", "--column", "code=messages.before").code == 1, "then nobody reads the question"


def test_rows_from_python(folder: Path) -> None:
    import masc

    named(folder)
    program = masc.compile("courier.mas")
    rows = masc.read_rows("rows:test", program, columns={"code": "The Code", "word": "Gold Answer"})
    assert (rows[0]["code"], rows[0]["word"]) == ("0", "a")
    with pytest.raises(masc.MascError, match="no column `word`"):
        masc.read_rows("rows:test", program, columns={"code": "The Code"})
    assert masc.read_rows("rows:test", program, columns={"code": "The Code"}, labels=False)[1]["code"] == "1"


def test_a_split_or_hub_that_is_not_there(folder: Path) -> None:
    named(folder)
    (found, *_) = said(folder, GRAPH.replace('"train.jsonl"', '"openai/gsm8k"'))
    assert (
        found.hint == "a data set of the hub is named with its split: `openai/gsm8k:train`, `openai/gsm8k:config/train`"
    )
    alone = GRAPH.replace('  eval_data "test.jsonl"\n', "")
    assert said(folder, alone.replace('"train.jsonl"', '"openai/gsm8k:main/train"')) == []
