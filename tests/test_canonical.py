"""What masc ships is written in the style that `masc fmt` writes: examples, documents, what `masc init` makes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from masc.commands import starters
from masc.dsl.read import read, read_source
from masc.dsl.rewrite import rewritten
from masc.dsl.source import Source

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted(path for path in (ROOT / "examples").rglob("*.mas") if ".masc" not in str(path.parent))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "examples").rglob("*.md"))]
BLOCKS = [
    pytest.param(language, text, id=f"{page.name}-{number}")
    for page in PAGES
    if page.name != "errors.md"  # it shows what is wrong
    for number, (language, text) in enumerate(
        re.findall(r"^```(mas|yaml)\n((?:#.*\n)*mas:? 1.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)
    )
]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example(path: Path) -> None:
    file, _, source = read(path)
    assert file is not None
    assert source is not None
    assert rewritten(file) == source.text


@pytest.mark.parametrize(("language", "text"), BLOCKS)
def test_every_document(language: str, text: str) -> None:
    file, _ = read_source(Source(f"x.{language}", text))
    assert file is not None
    assert rewritten(file) == text


@pytest.mark.parametrize("shape", starters.SHAPES)
@pytest.mark.parametrize("task", starters.TASKS)
def test_every_starter(shape: str, task: str) -> None:
    text = starters.program("team", shape, "smollm2-135m", task)
    file, _ = read_source(Source("team.mas", text))
    assert file is not None
    assert rewritten(file) == text
