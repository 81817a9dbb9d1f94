"""A channel that is declared and nothing else: it is read, checked, printed, drawn, explained and documented."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest

from editor import desk
from masc.backends.diagram import styles
from masc.backends.diagram.dot import dot
from masc.backends.diagram.inline import style as sheet
from masc.backends.diagram.mermaid import mermaid
from masc.backends.diagram.panels import panels
from masc.backends.diagram.sketch import sketch
from masc.compiler.channels import CHANNELS
from masc.compiler.channels.common import GRADIENT
from masc.compiler.channels.declare import Between, Channel, EdgeOption, Style
from masc.compiler.forms.graph_text import print_graph
from masc.compiler.ir.graph import Graph
from masc.compiler.language.bounds import whole
from masc.compiler.language.declare import table
from masc.compiler.language.values import numeric
from masc.compiler.pipeline import compile_source
from masc.dsl.diagnostics import Diagnostic
from masc.dsl.source import Source
from masc.lsp import words
from masc.lsp.completion import complete
from masc.lsp.hover import hover

TEAM = """\
mas 1
model m = "no-one/not-on-disk"
model n = "no-one/another"
agent a on m {
  user "{q}"
  think 1
}
agent b on n {
  user "{q} {a}"
  answer
}
graph g(q) -> answer {
  a -> b : echo(width = 8)
}
"""


def check(between: Between) -> Iterator[Diagnostic]:
    if between.edge.width < 4:
        yield Diagnostic("W0302", "an echo is wide", between.link.option("width"))


ECHO = Channel(
    kind="echo",
    help="What comes back.",
    crosses="what comes back",
    also="reverb",
    in_prompt=True,
    check=check,
    options=table(
        EdgeOption("width", numeric(whole(1, 99)), "How wide", 256, label=lambda width: f"{width} wide"), GRADIENT
    ),
    styles={"": Style("echo", "what comes back", "dotted", 2.0, 1.5, ("#123456", "#654321"))},
)


@pytest.fixture(autouse=True)
def declared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CHANNELS, "echo", ECHO)  # type: ignore[arg-type]
    # Tables that are made of it when masc starts.
    monkeypatch.setitem(words.OPTIONS, "echo", ECHO.options)  # type: ignore[arg-type]
    monkeypatch.setitem(styles.STYLES, "echo", ECHO.styles[""])  # type: ignore[arg-type]
    monkeypatch.setitem(styles.KINDS, "echo", "echo")  # type: ignore[arg-type]
    monkeypatch.setattr(styles, "_CHANNELS", [*styles._CHANNELS, ECHO.styles[""]])


def graph_of(text: str) -> Graph:
    graph = compile_source(Source("x.mas", text)).graph
    assert graph is not None
    return graph


def told(text: str) -> list[tuple[str, str | None]]:
    return [(d.message, d.hint) for d in compile_source(Source("x.mas", text)).diagnostics if d.code[0] != "I"]


def test_it_is_read_with_its_defaults() -> None:
    (edge,) = graph_of(TEAM).edges
    assert (edge.kind, edge.width, edge.gradient) == ("echo", 8, "full")
    assert "echo width=8 gradient=full" in print_graph(graph_of(TEAM))
    (edge,) = graph_of(TEAM.replace("(width = 8)", "")).edges
    assert edge.width == 256


def test_it_is_checked() -> None:
    assert "an echo is wide" in [message for message, _ in told(TEAM.replace("width = 8", "width = 2"))]
    assert told(TEAM.replace("width = 8", "width = 100"))[0][0] == "`width` is 100: it must be at most 99"
    assert told(TEAM.replace("width", "widht"))[0] == ("`echo` has no option `widht`", "did you mean `width`?")
    assert told(TEAM.replace("echo(", "reverb("))[0] == ("there is no channel `reverb`", "did you mean `echo`?")
    (found,) = (hint for message, hint in told(TEAM.replace("echo(width = 8)", "kv")) if "different models" in message)
    assert found is not None
    assert "`echo`" in found


def test_it_is_drawn() -> None:
    graph = graph_of(TEAM)
    assert sketch(graph).links[0].lines == ("echo", "8 wide")
    assert "stroke:#123456,stroke-width:2px,stroke-dasharray:2 3" in mermaid(graph)
    assert 'style=dotted, color="#123456", penwidth=1.5' in dot(graph)
    assert ".drawing .echo .line { stroke: var(--echo); stroke-dasharray: 2 3; }" in sheet()
    rows = panels(graph)["edge a -> b : echo"]["sections"][0]["rows"]
    assert rows[:3] == [("kind", "echo"), ("width", "8"), ("gradient", "full")]


def test_it_is_completed_and_explained(tmp_path: Path) -> None:
    at = desk(tmp_path, TEAM.replace("echo(width = 8)", "‸"))
    assert "echo" in {item.label for item in complete(at.index, at.path, at.offset)}
    at = desk(tmp_path, TEAM.replace("width = 8", "‸"))
    assert {item.label for item in complete(at.index, at.path, at.offset)} == {"width", "gradient"}
    at = desk(tmp_path, TEAM.replace('"{q} {a}"', '"{q} {‸}"'))
    assert "a" in {item.label for item in complete(at.index, at.path, at.offset)}
    at = desk(tmp_path, TEAM.replace("width", "wid‸th"))
    found = hover(at.index, at.compile, at.path, at.offset)
    assert found is not None
    assert found.text == "**width** = a whole number from 1 to 99\n\nHow wide (default 256)."


def test_it_is_documented() -> None:
    made = runpy.run_path(str(Path(__file__).parents[1] / "docs" / "generate.py"))
    assert "| `echo` | what comes back | any two models |" in made["channels"]()
    written = made["ROOT"] / made["VSCODE"] / "syntaxes" / "mas.tmLanguage.json"
    assert "|text|echo)" in made["colours"](written.read_text(encoding="utf-8"))
