"""masc's own source as data: its modules, and who imports whom."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

ROOT = Path(__file__).parents[2]
FOLDERS = {"masc": "masc", "masc.dsl": "dsl", "masc.compiler": "compiler", "masc.backends": "backends"}

When = Literal["loaded", "typed", "called"]


class Import(NamedTuple):
    """by, what: modules. when: it happens as the module is loaded, for types alone, or as a function is called."""

    by: str
    what: str
    when: When


@cache
def modules() -> dict[str, Path]:
    """Every module by its full name."""
    found = {}
    for package, folder in FOLDERS.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            found[".".join([package, *(part for part in parts if part != "__init__")])] = path
    return found


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def imports() -> tuple[Import, ...]:
    """All imports between modules of masc."""
    return tuple(
        Import(name, what, when)
        for name, path in modules().items()
        for what, when in _imported(tree_of(path), "loaded")
        if what != name
    )


def _imported(node: ast.AST, when: When) -> Iterator[tuple[str, When]]:
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.Import():
                yield from ((alias.name, when) for alias in child.names if alias.name in modules())
            case ast.ImportFrom():
                for alias in child.names:
                    full = f"{child.module}.{alias.name}"
                    if full in modules() or str(child.module) in modules():
                        yield full if full in modules() else str(child.module), when
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield from _imported(child, "called")
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                yield from _imported(child, "typed")
            case _:
                yield from _imported(child, when)
