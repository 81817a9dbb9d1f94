"""docs/errors.md is what `make docs` writes."""

from __future__ import annotations

import runpy
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def test_errors_page_is_up_to_date() -> None:
    made = runpy.run_path(str(DOCS / "errors.py"))["page"]()
    assert (DOCS / "errors.md").read_text(encoding="utf-8") == made, "run `make docs`"
    assert made.count("\n## ") > 100
