"""One mistake is one message, and two mistakes are two."""

from __future__ import annotations

from pathlib import Path

from masc.compiler.pipeline import compile_file, compile_source
from masc.dsl.source import Source

TEAM = """\
mas 1
model m = "no-one/none"
agent planner on m {
  user "{question}"
  think 4 (align = norm)
}
agent solver on m {
  user "{question}"
  answer (max_tokens = 8)
}
graph g(question) -> answer {
  planner -> solver : kv
}
"""


def said(text: str) -> list[str]:
    return [d.code for d in compile_source(Source("a.mas", text)).diagnostics if d.code != "I0501"]


def test_what_is_missing_follows_from_what_cannot_be_read() -> None:
    assert said(TEAM.replace("agent planner on m {", "agent plan-ner on m {")) == ["E0110"]
    assert said(TEAM.replace(": kv", ": : kv")) == ["E0103"]
    assert said(TEAM.replace("user", "uesr", 1)) == ["E0104"]
    assert said(TEAM.replace("max_tokens = 8", "max_tokens = 8.")) == ["E0109"]


def test_what_is_wrong_elsewhere_is_told() -> None:
    text = TEAM.replace("max_tokens = 8", "max_tokens = 8.")
    assert said(text.replace("norm", "nrom")) == ["E0405", "E0109"]
    assert said(text.replace("planner -> solver", "planner -> planner -> solver")) == ["E0109", "E0303"]


def test_a_misspelt_name_is_told_where_the_names_were_read() -> None:
    text = TEAM.replace("planner -> solver", "planer -> solver")
    assert said(text.replace("max_tokens = 8", "max_tokens = 8.")) == ["E0109", "E0201"]
    assert said(text.replace("agent planner on m {", "agent planner for m {")) == ["E0103"]


def test_warnings_wait() -> None:
    text = TEAM.replace("graph", 'model n = "no-one/other"\ngraph')
    assert said(text) == ["W0201"]
    assert said(text.replace("8)", "8.)")) == ["E0109"]


def test_a_broken_import_says_nothing_about_the_file(tmp_path: Path) -> None:
    (tmp_path / "roles.mas").write_text('mas 1\nmodel m = "x/y"\nagent critic on m { user "{question}" think 4 4 }\n')
    text = TEAM.replace("mas 1", 'mas 1\nimport "roles.mas" (critic)').replace("-> solver", "-> solvr")
    (tmp_path / "a.mas").write_text(text)
    codes = [d.code for d in compile_file(tmp_path / "a.mas").diagnostics if d.code != "I0501"]
    assert codes == ["E0103", "E0201"]
