"""The map of the house: imports run one way, between floors and between folders; compiling imports nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import networkx as nx
import pytest

from own_code import FOLDERS, ROOT, imports, modules, tree_of

FLOORS = ["masc.dsl", "masc.compiler", "masc.backends", "masc"]
"""A floor imports from those before it, and from itself."""
ROOMS = {
    "masc.compiler": [
        "files",
        "language",
        "ir",
        "models",
        "channels",
        "analysis",
        "cost",
        "forms",
        "resolve",
        "passes",
        "remarks",
        "pipeline",
        "artifact",
    ],
    "masc.backends": ["memory", "notebook", "diagram", "scoring", "torch"],
    "masc.backends.torch": ["data", "model", "channels", "engine", "", "training", "evaluation", "probing", "proving"],
    "masc": [
        "version",
        "terminal",
        "session",
        "training",
        "studies",
        "cluster",
        "harness",
        "serving",
        "api",
        "sharing",
        "lsp",
        "commands",
        "cli",
        "",
    ],
}
"""What a folder holds, in the order in which it may import: files and folders by name, "" for all other files."""
HEAVY = {"torch", "transformers", "peft", "huggingface_hub", "accelerate"}
MOST_LINES, MOST_OF_TESTS = 420, 500
KEPT = {"masc.compiler.files.tables": {"_reading"}}
"""State of a module: `csv`'s limit is one of the whole process, so who has lifted it is counted in one place."""


def test_imports_go_round_in_no_circle() -> None:
    """Also those in functions and for types. `masc` itself names its functions, so that what they call may ask it for
    anything."""
    network = nx.DiGraph([(each.by, each.what) for each in imports()])
    assert not [part for part in nx.strongly_connected_components(network) if len(part) > 1]


@pytest.mark.parametrize("floor", FLOORS)
def test_floors_import_one_way(floor: str) -> None:
    above = FLOORS[FLOORS.index(floor) + 1 :]
    wrong = [each for each in imports() if _floor(each.by) == floor and _floor(each.what) in above]
    assert not wrong


def _floor(module: str) -> str:
    return max((floor for floor in FLOORS if f"{module}.".startswith(f"{floor}.")), key=len)


@pytest.mark.parametrize("house", ROOMS)
def test_rooms_import_one_way(house: str) -> None:
    """Also in functions and for types."""
    rooms = ROOMS[house]
    wrong = []
    for each in imports():
        by, what = _room(house, each.by), _room(house, each.what)
        if by is not None and what is not None and rooms.index(by) < rooms.index(what):
            wrong.append(each)
    assert not wrong


def _room(house: str, module: str) -> str | None:
    """The room of a module; None: it is in another house."""
    if _floor(module) != _floor(house) or not module.startswith(f"{house}."):
        return None
    name = module.removeprefix(f"{house}.").partition(".")[0]
    return name if name in ROOMS[house] else ""


def test_every_room_is_on_the_map() -> None:
    for house, rooms in ROOMS.items():
        folder = modules()[house].parent
        folders = {path.parent.name for path in folder.glob("*/__init__.py")}
        assert folders <= set(rooms), house
        assert all(name == "" or f"{house}.{name}" in modules() for name in rooms), house


@pytest.mark.parametrize("floor", FLOORS)
def test_every_folder_says_in_a_sentence_what_it_holds(floor: str) -> None:
    for path in (ROOT / FOLDERS[floor]).rglob("__init__.py"):
        told = ast.get_docstring(tree_of(path))
        assert told is not None, path
        assert told.partition("\n\n")[0].endswith((".", "?", ".)")), path
    for path in (ROOT / FOLDERS[floor]).rglob("*.py"):
        assert (path.parent / "__init__.py").exists(), path


def test_files_hold_one_idea() -> None:
    """No file is long."""
    for paths, most in ((modules().values(), MOST_LINES), ((ROOT / "tests").rglob("*.py"), MOST_OF_TESTS)):
        assert [path for path in paths if path.read_text(encoding="utf-8").count("\n") > most] == []


@pytest.mark.parametrize("module", modules())
def test_no_module_has_a_state(module: str) -> None:
    """What a module names stays as it was when it was loaded. Functions may be memoised by functools."""
    tree = tree_of(modules()[module])
    named = {target.id for node in tree.body for target in _targets(node) if isinstance(target, ast.Name)}
    changed = {name for node in ast.walk(tree) if isinstance(node, _FUNCTIONS) for name in _changed(node)}
    assert changed & named <= KEPT.get(module, set())


_FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef
_CHANGING = {"add", "append", "appendleft", "clear", "discard", "extend", "insert", "move_to_end", "pop", "popitem"} | {
    "popleft",
    "remove",
    "setdefault",
    "sort",
    "update",
}


def _targets(node: ast.AST) -> list[ast.expr]:
    match node:
        case ast.Assign() | ast.Delete():
            return list(node.targets)
        case ast.AugAssign() | ast.AnnAssign():
            return [node.target]
    return []


def _changed(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    """The names of whatever a function changes in place, but for what it names itself."""
    own = {node.arg for node in ast.walk(function.args) if isinstance(node, ast.arg)}
    own |= {n.id for n in ast.walk(function) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    for node in ast.walk(function):
        match node:
            case ast.Global():
                yield from node.names
            case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr=attr)) if attr in _CHANGING:
                yield from {name} - own
        for target in _targets(node):
            if isinstance(target, ast.Subscript | ast.Attribute) and isinstance(target.value, ast.Name):
                yield from {target.value.id} - own


@pytest.mark.parametrize("floor", ["masc.dsl", "masc.compiler"])
def test_nothing_heavy_is_imported(floor: str) -> None:
    for path in (ROOT / FOLDERS[floor]).rglob("*.py"):
        for node in tree_of(path).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            assert not {name.partition(".")[0] for name in names} & HEAVY, path


def test_imports_are_absolute() -> None:
    for path in modules().values():
        nodes = (node for node in ast.walk(tree_of(path)) if isinstance(node, ast.ImportFrom))
        assert all(node.level == 0 for node in nodes), path


def test_compiling_a_file_loads_nothing_heavy(tmp_path: Path) -> None:
    file = tmp_path / "x.mas"
    text = (
        'mas 1\nmodel m = "smollm2-135m"\nagent a on m {\n  user "{q}"\n  answer\n}\ngraph g(q) -> answer {\n  a\n}\n'
    )
    file.write_text(text)
    script = (
        "import sys\n"
        "from masc.compiler.pipeline import compile_file\n"
        "assert compile_file(sys.argv[1]).plan is not None\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(file)], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
