"""Every diagnostic code in the source is explained, and none is explained twice."""

from __future__ import annotations

import re
from pathlib import Path

from masc.dsl.explain import codes, explain

ROOT = Path(__file__).parents[1]
FOLDERS = ("dsl", "compiler", "backends", "masc")


def test_every_code_in_the_source_is_explained() -> None:
    used = {
        code
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
        for code in re.findall(r'"([EWI]0\d{3})"', path.read_text(encoding="utf-8"))
    }
    assert used
    assert used <= set(codes()), used - set(codes())


def test_every_explained_code_is_used_and_explained_once() -> None:
    text = "".join(p.read_text(encoding="utf-8") for p in (ROOT / "dsl" / "explain").glob("*.md"))
    titles = re.findall(r"^## ([EWI]0\d{3}):", text, re.MULTILINE)
    assert len(titles) == len(set(titles))
    source = "".join(p.read_text(encoding="utf-8") for folder in FOLDERS for p in (ROOT / folder).rglob("*.py"))
    assert not [code for code in titles if f'"{code}"' not in source]
    for code in titles:
        assert explain(code)
