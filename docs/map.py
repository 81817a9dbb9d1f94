"""Writes the map of folders into CONTRIBUTING.md, from what each folder says of itself. `make docs` runs it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "CONTRIBUTING.md"
TOP = ("dsl", "compiler", "backends", "masc")
BEGIN, END = "<!-- map -->\n\n", "\n<!-- end of map -->"
PLACE = re.compile(r"<!-- map -->\n.*?<!-- end of map -->", re.DOTALL)


def folders() -> Iterator[tuple[str, str]]:
    """Every folder with code, those that may be imported by all others first, and the first paragraph of its
    docstring."""
    for top in TOP:
        for path in sorted((ROOT / top).rglob("__init__.py")):
            found = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
            assert found, f"{path} says nothing of its folder"
            yield path.parent.relative_to(ROOT).as_posix(), " ".join(found.split("\n\n")[0].split())


def table() -> str:
    """The map, as Markdown."""
    rows = (f"| [`{folder}`]({folder}) | {about} |\n" for folder, about in folders())
    return "| folder | holds |\n| --- | --- |\n" + "".join(rows)


if __name__ == "__main__":
    written = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(PLACE.sub(lambda _: BEGIN + table() + END, written), encoding="utf-8")
