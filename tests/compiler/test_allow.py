"""`# masc: allow W0201`: what it silences, what is said about it, and that it means the same after `masc fmt`."""

from __future__ import annotations

from pathlib import Path

import pytest

from masc.compiler.pipeline import compile_file, compile_source
from masc.dsl.formatter import format_file
from masc.dsl.source import Source
from masc.dsl.yaml_writer import format_yaml

TEAM = """\
mas 1  # the version
model m = "no-one/not-on-disk"
model n = "no-one/unused"
param p: int = 2
agent idle on m {
  user "{question}"
}
agent planner on m {
  user "{question}"
}
agent solver on m {
  user "{question}"
  answer
}
graph g(question, other) -> answer {
  planner -> solver : kv(
    carry = latents, merge = overlap)
}
"""


def told(text: str, path: str = "team.mas", **options: object) -> list[str]:
    found = compile_source(Source(path, text), **options).diagnostics  # type: ignore[arg-type]
    return sorted(d.code for d in found if d.code != "I0501")


@pytest.mark.parametrize(
    ("old", "new", "silenced"),
    [
        ("model n", "# masc: allow W0201\nmodel n", ["W0201"]),
        ('"no-one/unused"', '"no-one/unused"  # masc: allow W0201: later', ["W0201"]),
        ("param p", "# masc: allow W0202\n# more\n\nparam p", ["W0202"]),
        ("agent idle on m {", "agent idle on m {  # masc: allow W0203", ["W0203"]),
        ("graph g", "#masc:allow W0204\ngraph g", ["W0204"]),
        ("    carry = latents,", "    carry = latents,  # masc: allow W0301\n   ", ["W0301"]),
        ("  planner ->", "  # masc: allow W0301, I0501: no\n  planner ->", ["W0301"]),
        ("mas 1  # the version", "# masc: allow W0201 W0202 W0203\nmas 1", ["W0201", "W0202", "W0203"]),
        ("mas 1  # the version", "mas 1  # masc: allow W0201", ["W0201"]),
    ],
)
def test_what_is_silenced(old: str, new: str, silenced: list[str]) -> None:
    base = told(TEAM)
    text = TEAM.replace(old, new)
    assert text != TEAM
    expected = sorted(code for code in base if code not in silenced)
    assert set(silenced) <= set(base)
    assert told(text) == expected
    file = compile_source(Source("team.mas", text)).file
    assert file is not None
    assert told(format_file(file)) == expected
    assert told(format_yaml(file), "team.yaml") == expected


@pytest.mark.parametrize(
    ("old", "new", "code", "message"),
    [
        ("agent solver", "# masc: allow W0201\nagent solver", "W0208", "there is no W0201 to allow here"),
        ("graph g", "# masc: allow W0301\ngraph g", "W0208", "there is no W0301 to allow here"),
        ("param p", "# masc: allow W0299\nparam p", "W0209", "there is no code `W0299`"),
        ("param p", "# masc: allow E0201\nparam p", "W0209", "E0201 is an error, and errors cannot be allowed"),
        (
            "param p",
            "# masc: alow W0202\nparam p",
            "W0209",
            "this comment begins with `masc:`, but says nothing that masc knows",
        ),
        (
            "param p",
            "# masc: allow\nparam p",
            "W0209",
            "this comment begins with `masc:`, but says nothing that masc knows",
        ),
    ],
)
def test_what_is_said_about_such_a_comment(old: str, new: str, code: str, message: str) -> None:
    text = TEAM.replace(old, new)
    found = [d for d in compile_source(Source("team.mas", text)).diagnostics if d.code == code]
    assert [d.message for d in found] == [message]
    assert found[0].span is not None
    assert found[0].span.text == new.split("\n")[0]


def test_nothing_is_idle_where_not_all_is_told() -> None:
    text = TEAM.replace("agent solver", "# masc: allow W0201\nagent solver")
    assert "W0208" not in told(text.replace("-> solver", "-> nobody"))
    assert "W0208" not in told(text, cut=[("planner", "solver")])
    assert "W0208" not in told(text, set={"p": "3"})


def test_an_error_stays() -> None:
    text = TEAM.replace("  planner", "  # masc: allow E0201\n  plannr")
    assert "E0201" in told(text)


def test_files_that_are_imported_speak_for_themselves(tmp_path: Path) -> None:
    (tmp_path / "roles.mas").write_text(
        'mas 1\nagent planner on m { user "{question}" }\n# masc: allow W0201\nmodel m = "x/y"\n'
    )
    text = TEAM.replace('agent planner on m {\n  user "{question}"\n}\n', "").replace(
        "mas 1", 'mas 1\nimport "roles.mas" (planner)'
    )
    (tmp_path / "team.mas").write_text(text)
    codes = [d.code for d in compile_file(tmp_path / "team.mas").diagnostics]
    assert "W0208" not in codes
    assert "W0301" in codes
