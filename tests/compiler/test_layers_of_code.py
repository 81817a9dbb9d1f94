"""Imports run one way, and compiling imports nothing heavy."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# a package may import those before it, and itself
ORDER = ["masc.dsl", "masc.compiler", "masc.backends", "masc"]
FOLDERS = {"masc.dsl": "dsl", "masc.compiler": "compiler", "masc.backends": "backends", "masc": "masc"}
HEAVY = {"torch", "transformers", "peft", "huggingface_hub", "accelerate"}


def imports(path: Path, everywhere: bool) -> set[str]:
    """The modules that a file imports (at module level only, or `everywhere`)."""
    tree = ast.parse(path.read_text())
    nodes = ast.walk(tree) if everywhere else iter(tree.body)
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("package", ORDER)
def test_imports_run_one_way(package: str) -> None:
    later = ORDER[ORDER.index(package) + 1 :]
    for path in (ROOT / FOLDERS[package]).rglob("*.py"):
        for name in imports(path, everywhere=True):
            owner = next((p for p in ORDER if name == p or name.startswith(p + ".")), None)
            assert owner not in later, f"{path} imports {name}"


@pytest.mark.parametrize("package", ["masc.dsl", "masc.compiler"])
def test_nothing_heavy_is_imported(package: str) -> None:
    for path in (ROOT / FOLDERS[package]).rglob("*.py"):
        assert not {name.partition(".")[0] for name in imports(path, everywhere=False)} & HEAVY, path


def test_compiling_a_file_loads_nothing_heavy(tmp_path: Path) -> None:
    file = tmp_path / "x.mas"
    text = (
        'mas 1\nmodel m = "smollm2-135m"\nagent a on m {\n  user "{q}"\n  answer\n}\ngraph g(q) -> answer {\n  a\n}\n'
    )
    file.write_text(text)
    script = (
        "import sys, time\n"
        "from masc.compiler.pipeline import compile_file\n"
        "assert compile_file(sys.argv[1]).plan is not None\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)), time.process_time())\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(file)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("[] ")
    assert float(done.stdout.split()[-1]) < 5.0  # measured 0.25 s; the bound allows for a busy machine
