"""The README shows the courier as it is."""

from __future__ import annotations

from pathlib import Path

from masc.dsl.parser import parse
from masc.dsl.source import Source

ROOT = Path(__file__).parents[1]


def test_the_graph_in_the_readme_is_the_example() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8").split("```mas\n")[1].split("```")[0]
    example = (ROOT / "examples" / "courier" / "courier.mas").read_text(encoding="utf-8")
    shown, found = parse(Source("README.md", text))
    real, _ = parse(Source("courier.mas", example))
    assert not found
    assert shown == real
