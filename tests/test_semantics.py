"""docs/semantics.md: sections that the code cites are there, and so are the tests that the page names."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "semantics.md").read_text(encoding="utf-8")
SECTIONS = re.findall(r"^#{2,3} (\d+(?:\.\d+)?)\.? ", PAGE, re.MULTILINE)
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
CITED = re.compile(r"docs/semantics\.md,\s+sections?\s+(\d+(?:\.\d+)*(?:(?:, | and )\d+(?:\.\d+)*)*)")
FOLDERS = ("dsl", "compiler", "backends", "masc", "tests", "benchmarks", "docs")


def cited(text: str) -> list[str]:
    """The numbers of the sections that a text cites, line breaks and comment marks between the words or not."""
    joined = re.sub(r"\n\s*(?:# )?", " ", text)
    return [number for found in CITED.findall(joined) for number in re.split(r", | and ", found)]


def test_sections_are_numbered_in_order() -> None:
    assert SECTIONS
    assert len(set(SECTIONS)) == len(SECTIONS)
    assert sorted(SECTIONS, key=lambda number: [int(part) for part in number.split(".")]) == SECTIONS
    mentioned = {number.rstrip(".") for number in re.findall(r"[Ss]ections? (\d[\d.]*)", PAGE)}
    assert mentioned <= set(SECTIONS)


def test_what_counts_as_a_citation() -> None:
    assert cited("(docs/semantics.md, section 4.2) docs/semantics.md,\n    sections 5.1 and 6") == ["4.2", "5.1", "6"]
    assert cited("# see docs/semantics.md,\n# section 99.") == ["99"]


def test_every_section_that_is_cited_exists() -> None:
    found = {
        (str(path.relative_to(ROOT)), number)
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.suffix in (".py", ".md") and path.name != Path(__file__).name
        for number in cited(path.read_text(encoding="utf-8"))
    }
    assert {path for path, _ in found if path.startswith("backends/")}, "the backend cites it"
    assert not {(path, number) for path, number in found if number not in SECTIONS}


@pytest.mark.parametrize("path", sorted({path for path, _ in NAMED}))
def test_every_test_that_is_named_exists(path: str) -> None:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    there = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    assert not {name for where, name in NAMED if where == path} - there


def test_every_identity_names_its_test() -> None:
    table = PAGE.split("## 14.")[1].split("## 15.")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    rows = [line for line in rows if not line.startswith("| ---")]
    assert len(rows) == len(NAMED)
