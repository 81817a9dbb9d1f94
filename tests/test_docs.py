"""The documents: their examples compile, their dumps are what the commands print, their lists are complete."""

from __future__ import annotations

import inspect
import os
import re
import runpy
import shlex
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import masc
from masc import api
from masc.compiler.channels import CHANNELS
from masc.compiler.forms.graph_text import print_graph
from masc.compiler.forms.plan_text import print_plan
from masc.compiler.ir.plan import TrainSettings
from masc.compiler.pipeline import compile_file, compile_source
from masc.dsl.diagnostics import errors
from masc.dsl.dump import dump
from masc.dsl.render import render
from masc.dsl.source import Source
from warm import heavy

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


def text(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text(name), re.MULTILINE | re.DOTALL)


PAGES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md")), *sorted((ROOT / "examples").rglob("README.md"))]
"""Pages with links to other files of the project, and to headings in them."""


def anchors(page: Path) -> set[str]:
    """How GitHub calls the headings of a page, and the anchors that it sets itself."""
    written = page.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+)$", written, re.MULTILINE)
    named = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return named | set(re.findall(r'<a (?:id|name)="([^"]+)"', written))


def shown(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_every_link_leads_somewhere(page: Path) -> None:
    prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for goal in re.findall(r"\]\(([^)\s]+)\)", prose):
        if "://" not in goal:
            name, _, anchor = goal.partition("#")
            there = page.parent / name if name else page
            assert there.exists(), goal
            assert not anchor or anchor in anchors(there), goal


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_every_path_that_is_named_exists(page: Path) -> None:
    tops = "dsl|compiler|backends|masc|tests|benchmarks|editors|docs"
    named = set(re.findall(rf"`((?:{tops})/[\w./-]*)`", page.read_text(encoding="utf-8")))
    assert not [name for name in sorted(named) if not (ROOT / name).exists() and not name.endswith(".vsix")]


@pytest.mark.parametrize("block", blocks("language.md", "yaml"))
def test_every_example_in_yaml_compiles(block: str) -> None:
    compilation = compile_source(Source("x.yaml", block))
    assert not compilation.diagnostics, render(compilation.diagnostics)


@pytest.mark.parametrize("block", blocks("language.md", "mas"))
def test_every_example_of_the_language_compiles(block: str) -> None:
    compilation = compile_source(Source("language.md", block))
    assert not errors(compilation.diagnostics), render(compilation.diagnostics)
    assert compilation.plan is not None


def test_the_reference_names_every_option_and_entry() -> None:
    words = text("language.md")
    for kind, channel in CHANNELS.items():
        assert f"`{kind}`" in words
        assert all(option in words for option in channel.options)
    table = words.split("| entry | means")[1]
    assert all(f"`{field.name}`" in table for field in fields(TrainSettings))


def test_the_rounds_are_as_the_reference_says() -> None:
    (rounds,) = (block for block in blocks("language.md", "mas") if "repeat rounds" in block)
    graph = compile_source(Source("language.md", rounds)).graph
    assert graph is not None
    agents = [activation.agent for activation in graph.activations]
    assert (agents.count("solver"), agents.count("critic")) == (3, 2)


def test_the_dumps_are_what_the_commands_print() -> None:
    (written,) = blocks("architecture.md", "mas")
    compilation = compile_source(Source("pair.mas", written))
    assert compilation.graph is not None
    assert compilation.file is not None
    shown = dict(re.findall(r"^<!-- (\w+) -->\n```\n(.*?)^```", text("architecture.md"), re.MULTILINE | re.DOTALL))
    assert shown["ast"] == dump(compilation.file)
    assert shown["graph"] == print_graph(compilation.graph)
    assert shown["plan"] == print_plan(compilation.require())


@pytest.mark.model
def test_the_dump_of_the_module_is_the_module_s(smollm2: Path, tmp_path: Path) -> None:
    (tmp_path / "pair.mas").write_text(blocks("architecture.md", "mas")[0])
    program = masc.compile(tmp_path / "pair.mas", device="cpu")
    owned: dict[str, list[str]] = {}
    for name, parameter in program.trainable().items():
        owned.setdefault(program.owner(name), []).append(f"  {name} {list(parameter.shape)}\n")
    assert all(len(found) == 420 for found in owned.values())
    shown = re.search(r"^<!-- module -->\n```\n(.*?)^```", text("architecture.md"), re.MULTILINE | re.DOTALL)
    assert shown is not None
    assert shown[1] == "".join("".join([f"{owner}\n", *found[:2]]) for owner, found in owned.items())


OWN = [name for name, thing in vars(api).items() if getattr(thing, "__module__", "") == "masc.api" and name[0] != "_"]


@pytest.mark.parametrize("name", sorted({*masc.__all__, *OWN}))
def test_every_public_name_is_documented(name: str) -> None:
    assert re.search(rf"^## `masc\.(api\.)?{name}\b", text("python.md"), re.MULTILINE)


@pytest.mark.parametrize("name", OWN)
def test_every_argument_is_documented(name: str) -> None:
    (heading,) = re.findall(rf"^## `masc\.(?:api\.)?({name}\(.*)`$", text("python.md"), re.MULTILINE)
    shown = re.findall(r"\*\*\w+|\w+(?==)|\w+(?=[,)])", heading.partition("(")[2])
    wanted = inspect.signature(getattr(api, name)).parameters
    assert [word.lstrip("*") for word in shown if word != "None" and word.lstrip("*") in wanted] == list(wanted)


def test_the_tutorial_s_files_compile(tmp_path: Path) -> None:
    found = dict(re.findall(r"cat > (\S+\.mas) <<'END'\n(.*?)^END$", text("tutorial.md"), re.MULTILINE | re.DOTALL))
    assert found
    for name, content in found.items():
        (tmp_path / name).write_text(content)
        compilation = compile_file(tmp_path / name)
        assert not errors(compilation.diagnostics), render(compilation.diagnostics)


def test_the_tutorial_runs(tiny: Path, tmp_path: Path) -> None:
    """Its shell blocks in order, with the tiny model for the real one and 2 steps for 60; `masc` is forked from a
    process that has imported it."""
    script = "\n".join(blocks("tutorial.md", "sh"))
    for written, instead in (("smollm2-135m", str(tiny)), ("steps 60", "steps 2"), ("open = 40", "open = 1")):
        assert script.count(written) == 1
        script = script.replace(written, instead)
    script = script.replace("range(1000), 900", "range(1000), 24").replace("codes[:800]", "codes[:16]")
    script = script.replace("codes[800:]", "codes[16:]")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    for part in re.split(r"^(masc .*)\n", script + "\n", flags=re.MULTILINE):
        if part.startswith("masc "):
            done = heavy().call(*shlex.split(part)[1:], cwd=tmp_path)
        else:
            environment = os.environ | {"PATH": path}
            done = subprocess.run(["bash", "-euc", part], cwd=tmp_path, env=environment, capture_output=True)
        assert done.returncode == 0, (part, done.stdout + done.stderr)
    assert (tmp_path / "courier.html").read_text().startswith("<!doctype html>")
    assert (tmp_path / "courier.masc" / "metrics.jsonl").read_text().count("\n") >= 2


def test_the_commands_pages_are_what_the_help_says() -> None:
    made = runpy.run_path(str(DOCS / "commands.py"))
    assert [path.name for path, _ in made["stale"]()] == [], "run `make generated`"


def test_the_site_leads_to_every_page() -> None:
    """The pages of docs and the examples stand in the navigation, each once; hooks.py makes the others."""
    listed = re.findall(r"^ +- (?:[^:\n]+: )?([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    elsewhere = {"index.md", "contributing.md", "changelog.md", "tour.md", "api.md"}
    examples = {f"examples/{path.parent.name}.md" for path in (ROOT / "examples").glob("*/README.md")}
    own = {path.name for path in DOCS.glob("*.md")}
    assert sorted(listed) == sorted(own | elsewhere | examples | {"commands/README.md"})


def test_the_pictures_show_the_examples() -> None:
    for picture in [*DOCS.glob("*.svg"), *DOCS.glob("gallery/*.svg")]:
        found = (ROOT / "examples").rglob(f"{picture.stem}.mas")
        (program,) = (path for path in found if path.parent.suffix != ".masc")  # what was trained holds a copy
        graph = compile_file(program).graph
        assert graph is not None
        words = set(re.findall(r">([^<>\n]+)<", picture.read_text(encoding="utf-8")))
        assert {graph.name, *(agent.name for agent in graph.agents)} <= words, picture.name


def test_the_map_is_what_the_folders_say() -> None:
    made = runpy.run_path(str(DOCS / "map.py"))
    assert made["table"]() in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), "run `make docs`"
    for folder, about in made["folders"]():
        for name in re.findall(r"`([\w/]+\.py)`", about):
            assert (ROOT / folder / name).exists() or (ROOT / name).exists(), f"{folder} names {name}"
