"""Rows of folders, of what `datasets` saved, and of the hub."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from masc.backends.torch.data.check import read_rows
from masc.compiler.files.sources import RowSource, row_source
from masc.compiler.passes.data_files import columns_there
from masc.dsl.diagnostics import Diagnostic, MascError

COLUMNS = ("q", "answer")


def rows(name: str, count: int = 2) -> list[dict[str, Any]]:
    return [{"q": f"{name} {i}", "answer": i / 3} for i in range(count)]


def lines(name: str, count: int = 2) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows(name, count))


def read(written: str | Path, base: Path = Path()) -> list[dict[str, Any]]:
    return read_rows(row_source(str(written), base), COLUMNS)


def refused(written: str | Path, base: Path = Path()) -> Diagnostic:
    with pytest.raises(MascError) as caught:
        read(written, base)
    return caught.value.diagnostics[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """train in two files (one of them packed), test in a folder of its own, and what holds no rows."""
    (tmp_path / "rows" / "test").mkdir(parents=True)
    (tmp_path / "rows" / "train-00000-of-00002.jsonl").write_text(lines("a"))
    with gzip.open(tmp_path / "rows" / "train-00001-of-00002.jsonl.gz", "wt") as file:
        file.write(lines("b"))
    (tmp_path / "rows" / "test" / "part.jsonl").write_text(lines("t", 1))
    for name in ("README.md", "notes.txt", ".hidden.jsonl", "dataset_infos.json"):
        (tmp_path / "rows" / name).write_text("nothing of rows")
    return tmp_path / "rows"


def test_what_a_text_names(tmp_path: Path) -> None:
    (tmp_path / "a:b.jsonl").touch()
    (tmp_path / "rows").mkdir()
    assert row_source("a:b.jsonl", tmp_path) == RowSource("a:b.jsonl", tmp_path / "a:b.jsonl")
    assert row_source("rows:main/train", tmp_path) == RowSource(
        "rows:main/train", tmp_path / "rows", config="main", split="train"
    )
    hub = row_source("openai/gsm8k@v1.0:main/train[:10%]", tmp_path)
    assert (hub.path, hub.hub, hub.revision, hub.config, hub.split) == (
        None,
        "openai/gsm8k",
        "v1.0",
        "main",
        "train[:10%]",
    )
    assert row_source("squad/squad:train", tmp_path).config is None
    for name in ("openai/gsm8k", "data/train.jsonl", "a/b/c:train", "gone:train", "x\0:train"):
        assert row_source(name, tmp_path).path == tmp_path / name


def test_a_folder_is_read_split_by_split(folder: Path) -> None:
    assert read(f"{folder}:train") == rows("a") + rows("b")
    assert read("rows:test", folder.parent) == rows("t", 1)
    assert columns_there(row_source(f"{folder}:test")) == ["q", "answer"]


def test_a_folder_without_names_of_splits_is_train(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv"):
        (tmp_path / name).write_text(f"q,answer\n{name},1\n")
    assert [row["q"] for row in read(tmp_path)] == ["a.csv", "b.csv"]
    assert read(f"{tmp_path}:train") == read(tmp_path)


def test_which_rows_of_a_folder_must_be_said(folder: Path, tmp_path: Path) -> None:
    told = refused(folder)
    assert (told.code, told.message) == ("E0626", f"`{folder}` has the splits `test`, `train`")
    assert told.hint == f"say which is meant: `{folder}:test` or `{folder}:train`"
    told = refused(f"{folder}:trian")
    assert (told.code, told.hint) == ("E0626", "did you mean `train`?")
    (folder / "train.csv").write_text("q,answer\na,1\n")
    assert "of several kinds" in refused(f"{folder}:train").message
    (tmp_path / "empty").mkdir()
    assert "holds no file of rows" in refused(tmp_path / "empty").message
    assert refused(f"{folder}/train.csv:train").message.endswith("is a file, which has no splits")


def test_errors_in_a_folder_name_the_file_and_the_line(folder: Path) -> None:
    (folder / "train-00002.jsonl").write_text(lines("c") + "{broken\n")
    told = refused(f"{folder}:train")
    assert told.code == "E0602"
    assert told.span is not None
    assert (told.span.source.path, told.span.line) == (str(folder / "train-00002.jsonl"), 3)
    (folder / "train-00002.jsonl").write_text('{"q": "x"}\n')
    assert refused(f"{folder}:train").message == "line 1 of `train-00002.jsonl` has no column `answer`"


def test_numbers_of_a_folder_are_exact(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"q": 0.1000000000000000055511151231257827, "answer": 12345678901234567890.5}\n')
    from masc.backends.torch.data.values import text_of

    (row,) = read(tmp_path)
    assert text_of(row["q"]) == "0.1000000000000000055511151231257827"


def test_a_hub_id_without_its_split_is_told_how(tmp_path: Path) -> None:
    told = refused("openai/gsm8k", tmp_path)
    assert told.code == "E0601"
    assert (
        told.hint == "a data set of the hub is named with its split: `openai/gsm8k:train`, `openai/gsm8k:config/train`"
    )
    (tmp_path / "train.jsonl").touch()
    assert refused("trian.jsonl", tmp_path).hint == "did you mean `train.jsonl`?"
    assert refused("data/train.jsonl", tmp_path).hint == f"it was looked for in `{tmp_path / 'data'}`"


# -- with the package `datasets` ---------------------------------------------------------------------------------


@pytest.fixture
def library() -> Any:
    return pytest.importorskip("datasets")


def test_what_datasets_saved(library: Any, tmp_path: Path) -> None:
    one, other = (library.Dataset.from_list(rows(name)) for name in ("a", "b"))
    one.save_to_disk(tmp_path / "one")
    library.DatasetDict({"train": one, "test": other}).save_to_disk(tmp_path / "both")
    assert read(tmp_path / "one") == rows("a")
    assert read(f"{tmp_path / 'both'}:test") == rows("b")
    assert columns_there(row_source(str(tmp_path / "one"))) == ["q", "answer"]
    assert columns_there(row_source(f"{tmp_path / 'both'}:test")) == ["q", "answer"]
    assert "has the splits `train`, `test`" in refused(tmp_path / "both").message
    assert refused(f"{tmp_path / 'both'}:tset").hint == "did you mean `test`?"
    assert "as one split" in refused(f"{tmp_path / 'one'}:train").message
    with pytest.raises(MascError, match=r"row 1 of .* has no column `Q`"):
        read_rows(row_source(str(tmp_path / "one")), ("Q",))


def test_narrow_numbers_of_a_saved_data_set_are_what_was_written(library: Any, tmp_path: Path) -> None:
    kinds = library.Features({"q": library.Value("string"), "answer": library.Value("float32")})
    library.Dataset.from_list([{"q": "a", "answer": 0.1}], features=kinds).save_to_disk(tmp_path / "one")
    assert read(tmp_path / "one") == [{"q": "a", "answer": 0.1}]


def test_a_saved_data_set_that_is_damaged(library: Any, tmp_path: Path) -> None:
    library.Dataset.from_list(rows("a")).save_to_disk(tmp_path / "one")
    (arrow,) = (tmp_path / "one").glob("*.arrow")
    arrow.write_bytes(arrow.read_bytes()[:20])
    assert refused(tmp_path / "one").code == "E0624"
    (tmp_path / "both").mkdir()
    (tmp_path / "both" / "dataset_dict.json").write_text('{"splits": ["../one"]}')
    told = refused(f"{tmp_path / 'both'}:../one")
    assert (told.code, "names no splits" in told.message) == ("E0624", True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A data set as it lies on the hub: its README says which files are what."""
    home = tmp_path / "owner" / "set"
    home.mkdir(parents=True)
    (home / "README.md").write_text(
        "---\nconfigs:\n- config_name: main\n  data_files:\n  - split: train\n    path: a.jsonl\n"
        "  - split: test\n    path: b.jsonl\n- config_name: other\n  data_files: c.jsonl\n---\n# A data set\n"
    )
    for name in "abc":
        (home / f"{name}.jsonl").write_text(lines(name))
    return home


def test_a_folder_that_is_laid_out_as_on_the_hub(library: Any, repository: Path) -> None:
    assert read("owner/set:main/train", repository.parents[1]) == rows("a")
    assert read(f"{repository}:other/train") == rows("c")
    assert refused(f"{repository}:mian/train").hint == "did you mean `main`?"
    assert refused(f"{repository}:main/trian").hint == "did you mean `train`?"
    assert "its config is not said" in refused(f"{repository}:train").message
    (repository / "a.jsonl").write_text(lines("a") + "{broken\n")
    told = refused(f"{repository}:main/train")
    assert (told.code, told.span and told.span.line) == ("E0602", 3)


def test_the_hub_is_asked_for_config_split_and_revision(library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def load(*names: Any, **options: Any) -> Any:
        asked.append((names, options))
        return library.Dataset.from_list(rows("h"))

    monkeypatch.setattr(library, "load_dataset", load)
    assert read("openai/gsm8k@abc:main/train[:2]") == rows("h")
    assert asked == [(("openai/gsm8k", "main"), {"split": "train[:2]", "revision": "abc"})]


@pytest.mark.parametrize(
    ("said", "code", "hint"),
    [
        ("Unknown split \"trian\". Should be one of ['train', 'test'].", "E0626", "did you mean `train`?"),
        ("BuilderConfig 'mian' not found. Available: ['main', 'socratic']", "E0626", "did you mean `main`?"),
        (
            "Config name is missing.\nPlease pick one among the available configs: ['main', 'socratic']\nExample",
            "E0626",
            "it has the configs `main`, `socratic`",
        ),
        ("Dataset 'a/b' is a gated dataset on the Hub.", "E0625", "ask for access"),
        ("Couldn't reach 'a/b' on the Hub (ConnectionError)", "E0624", "without a network"),
    ],
)
def test_what_the_hub_refuses(library: Any, monkeypatch: pytest.MonkeyPatch, said: str, code: str, hint: str) -> None:
    def load(*_: Any, **__: Any) -> None:
        raise ValueError(said)

    monkeypatch.setattr(library, "load_dataset", load)
    told = refused("a/b:mian/trian")
    assert told.code == code
    assert hint in (told.hint or "")


def test_without_datasets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    told = refused("openai/gsm8k:main/train")
    assert told.code == "E0627"
    assert "pip install datasets" in (told.hint or "")
    for name in ("dataset_info.json", "state.json"):
        (tmp_path / name).write_text("{}")
    assert refused(tmp_path).code == "E0627"


def test_a_folder_beyond_measure_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from masc.compiler.files import sources as named

    monkeypatch.setattr(named, "MOST_FILES", 2)
    for i in range(3):
        (tmp_path / f"{i}.jsonl").touch()
    assert "more than 2 files" in refused(tmp_path).message


def test_nothing_of_a_data_set_is_executed(library: Any, tmp_path: Path) -> None:
    """A script beside the data, as data sets once had, is left alone."""
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "set.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    (tmp_path / "set" / "a.jsonl").write_text(lines("a"))
    assert read(tmp_path / "set") == rows("a")
    assert refused(f"{tmp_path / 'set'}:main/train").code in ("E0624", "E0626")
    assert not (tmp_path / "ran").exists()
