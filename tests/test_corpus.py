"""Wrong files, and all that masc says about each: in the file itself, below a line `# told`, behind `# `.

    MASC_CORPUS=write pytest tests/test_corpus.py

writes down what is said now; read the difference before it is committed. A file is called after the code that it is
about, so that this cannot turn a mistake into the expectation that there is none.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from folders import fill
from masc.compiler.pipeline import compile_source
from masc.dsl.render import render
from masc.dsl.source import Source

CORPUS = Path(__file__).parent / "corpus"
FILES = sorted(path for path in CORPUS.iterdir() if path.is_file())
TOLD = "# told\n"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the files are compiled: what they share is there, the model's weights and tokenizer too."""
    home = tmp_path_factory.mktemp("corpus")
    shutil.copytree(CORPUS / "shared", home / "shared")
    for name in ("tied", "hunyuan"):
        fill(home / "shared" / name)
    return home


def told(path: Path, text: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[set[str], str]:
    """The codes, and the text as a person sees it. What depends on the machine is left out: notes about models that are
    not on disk, and where this folder lies."""
    monkeypatch.chdir(home)
    found = [d for d in compile_source(Source(path.name, text), base=".").diagnostics if d.code != "I0501"]
    return {d.code for d in found}, render(found).replace(f"{home}{os.sep}", "./")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_what_is_told(path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, mark, block = path.read_text(encoding="utf-8").partition(TOLD)
    expected = "\n".join(line.removeprefix("#").removeprefix(" ") for line in block.splitlines())
    codes, shown = told(path, text, home, monkeypatch)
    assert path.name.split("_")[0] in codes
    if os.environ.get("MASC_CORPUS") == "write":
        path.write_text(
            text + TOLD + "".join(f"# {line}".rstrip() + "\n" for line in shown.splitlines()), encoding="utf-8"
        )
        pytest.skip("written")
    assert mark
    assert shown.rstrip("\n") == expected


def test_there_are_enough() -> None:
    assert len(FILES) >= 60
