"""The wheel: all of masc, and nothing that claims another name."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("masc", "dsl", "compiler", "backends")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names of all files in the wheel, built from a copy so that nothing of an earlier build gets in."""
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tree)
    for name in FOLDERS:
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-build-isolation", "--wheel-dir", str(out), str(tree)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (built,) = out.glob("masc_lang-*.whl")
    with zipfile.ZipFile(built) as archive:
        return set(archive.namelist())


def test_only_masc_is_at_the_top(wheel: set[str]) -> None:
    top = {name.split("/")[0] for name in wheel}
    assert "masc" in top
    assert len(top) == 2
    (info,) = top - {"masc"}
    assert info.startswith("masc_lang-")
    assert info.endswith(".dist-info")


def test_every_source_file_is_in_it(wheel: set[str]) -> None:
    for folder in FOLDERS:
        package = Path("masc") if folder == "masc" else Path("masc") / folder
        for source in (ROOT / folder).rglob("*.py"):
            assert (package / source.relative_to(ROOT / folder)).as_posix() in wheel


def test_the_data_is_in_it(wheel: set[str]) -> None:
    assert {"masc/dsl/grammar.lark", "masc/py.typed"} <= wheel
    drawing = ("page.html", "page.css", "page.js", "drawing.css", "palette.css")
    parts = {f"masc/backends/diagram/{part}" for part in drawing} | {"masc/studies/inspection.css"}
    parts |= {f"masc/serving/{part}" for part in ("dashboard.css", "dashboard.js")}
    assert parts <= wheel
    explained = {f"masc/dsl/explain/{page.name}" for page in (ROOT / "dsl" / "explain").glob("*.md")}
    assert explained
    assert explained <= wheel


def test_nobody_is_told_to_install_a_name_that_is_not_ours() -> None:
    """On PyPI `masc` is another project."""
    found = []
    for path in (
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("dsl/explain/*.md"),
        *ROOT.glob("masc/**/*.py"),
    ):
        found += [(path, line) for line in re.findall(r"(?:pip|uv|pipx|poetry)\W.*", path.read_text(encoding="utf-8"))]
    for path in (ROOT / "editors").rglob("*.[jm][sd]"):
        if "node_modules" not in path.parts:
            found += [(path, line) for line in re.findall(r"pip install.*", path.read_text(encoding="utf-8"))]
    assert found
    assert not [(path, line) for path, line in found if re.search(r"install[^`\n]*[\s\"']masc(\[|[\s\"`]|$)", line)]


def test_what_is_installed_says_its_version() -> None:
    import masc
    from masc.compiler.artifact import versions

    assert dict(versions())["masc"] == masc.__version__


def test_what_is_imported_is_asked_for() -> None:
    """Not left to a package that happens to bring it. IPython is there where a notebook is; trackers are users' own."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [one for name, some in project["optional-dependencies"].items() if name != "dev" for one in some]
    asked = {_plain(re.split(r"[<>=!~;\[ ]", one)[0]) for one in (*project["dependencies"], *extras)}
    known = packages_distributions()
    missing = {
        (top, str(path.relative_to(ROOT)))
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
        for top in _imported(path)
        if not {_plain(name) for name in known.get(top, [top])} & asked
    }
    assert {top for top, _ in missing} == {"IPython", "trackio"}, sorted(missing)


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _imported(path: Path) -> set[str]:
    """The packages that a file imports, but for Python's own and masc."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [one.name for one in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
        found |= {name.split(".")[0] for name in names}
    return found - sys.stdlib_module_names - {"masc"}
