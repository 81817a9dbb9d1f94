"""Fixes: what a hint says, done to the text."""

from __future__ import annotations

from pathlib import Path

import pytest

from editor import MAIN, desk
from masc.lsp.actions import actions
from masc.lsp.outline import outline
from masc.lsp.rename import apply


def fixes(folder: Path, text: str) -> dict[str, tuple[str, str]]:
    """Title to code and the text after the fix."""
    at = desk(folder, text)
    path = at.named("relay.mas")
    here = [d for d in at.compile(path).diagnostics if d.span and d.span.source.path == path]
    found = actions(here, 0, len(text))
    return {action.title: (action.diagnostic.code, apply(text, [action.edit])) for action in found}


@pytest.mark.parametrize(
    ("right", "wrong", "code", "title"),
    [
        ("tutor -> critic", "tuttor -> critic", "E0201", "Change to `tutor`"),
        ("{question}", "{qestion}", "E0207", "Change to `question`"),
        ("carry = latents", "carry = latent", "E0405", "Change to `latents`"),
        ("carry = own", "cary = own", "E0401", "Change to `carry`"),
        ("carry = own", 'carry = "own"', "E0403", "Change to `own`"),
        ("batch 4", "bacth 4", "E0401", "Change to `batch`"),
        ("agent tutor", "agnet tutor", "E0104", "Change to `agent`"),
        ('"roles.mas"', '"role.mas"', "E0130", "Change to `roles.mas`"),
        ("(expert, critic, depth)", "(expert, critc, depth)", "E0209", "Change to `critic`"),
        ("{question}", "{ question }", "E0108", "Change to `{question}`"),
        ("mas 1\n\nimport", "import", "E0101", "Write `mas 1` on the first line"),
        ("mas 1", "mas 2", "E0102", "Change to `1`"),
        ("carry = own,", "carry own,", "E0103", "Insert `=`"),
        ("max_tokens = 8", "max_tokens = 1_000", "E0109", "Change to `1000`"),
    ],
)
def test_a_fix_makes_it_right(tmp_path: Path, right: str, wrong: str, code: str, title: str) -> None:
    (tmp_path / "roles.mas").write_text("mas 1\n")
    base = MAIN.replace("mas 1\n", "mas 1\n\n", 1) if right.startswith("mas 1\n") else MAIN
    if "1000" in title:
        base = MAIN.replace("max_tokens = 8", "max_tokens = 1000")
    place = "1000" if "1000" in title else right
    broken = base.replace("max_tokens = " + place, wrong, 1) if "1000" in title else base.replace(right, wrong, 1)
    assert broken != base
    found = fixes(tmp_path, broken)
    assert title in found, found
    assert found[title] == (code, base)


@pytest.mark.parametrize("written", ["gold_answer", '"Gold Answr"'])
def test_a_column_is_written_in_quotes_where_it_needs_them(tmp_path: Path, written: str) -> None:
    (tmp_path / "rows.jsonl").write_text('{"question": "1 + 1", "Gold Answer": "2"}\n')
    text = MAIN.replace("answer <- solution", f'data "rows.jsonl" answer <- {written}')
    code, fixed = fixes(tmp_path, text)["Change to `Gold Answer`"]
    assert code == "W0216"
    assert fixed == text.replace(written, '"Gold Answer"')


def test_an_input_cannot_be_called_like_a_column_that_is_no_name(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"question ": "1 + 1", "solution": "2"}\n')
    assert not [t for t in fixes(tmp_path, MAIN.replace("answer <-", 'data "rows.jsonl" answer <-')) if "Change" in t]


def test_an_unused_import_is_taken_out(tmp_path: Path) -> None:
    found = fixes(tmp_path, MAIN)
    assert found == {"Take `depth` out of the import": ("W0205", MAIN.replace(", depth)", ")"))}


def test_an_open_string_is_closed(tmp_path: Path) -> None:
    found = fixes(tmp_path, MAIN.replace('expert("mathematics")', 'expert("mathematics)'))
    assert found['Close with `"`'] == ("E0106", MAIN.replace('expert("mathematics")', 'expert("mathematics)"'))


def test_only_what_is_selected_is_fixed(tmp_path: Path) -> None:
    at = desk(tmp_path, MAIN.replace("tutor -> critic", "tuttor -> critic"))
    path = at.named("relay.mas")
    found = at.compile(path).diagnostics
    assert actions(found, 0, 3) == []
    where = at.texts[path].index("tuttor")
    assert [action.title for action in actions(found, where + 2, where + 2)] == ["Change to `tutor`"]


def test_an_outline(tmp_path: Path) -> None:
    at = desk(tmp_path)
    file = at.index.files[at.named("relay.mas")].file
    assert file is not None
    entries = outline(file)
    assert [(e.name, e.sort) for e in entries] == [
        ('import "roles.mas"', "import"),
        ("small", "model"),
        ("tutor", "agent"),
        ("solver", "agent"),
        ("relay", "graph"),
        ("train", "train"),
    ]
    graph = entries[4]
    assert [child.name for child in graph.children] == [
        "maths",
        "maths -> solver",
        "tutor -> critic",
        "repeat 2",
        "solver -> answer",
    ]
    assert [child.name for child in graph.children[3].children] == ["critic -> solver", "solver -> critic"]
    for entry in (*entries, *graph.children):
        assert entry.span.start <= entry.name_span.start <= entry.name_span.end <= entry.span.end
