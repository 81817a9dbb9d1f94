"""Definition, references and rename, across files."""

from __future__ import annotations

from pathlib import Path

import pytest

from editor import MAIN, ROLES, Desk, cursor, desk
from masc.lsp.index import Kind
from masc.lsp.rename import RefusedError, apply, rename
from masc.lsp.texts import workspace_files


def definitions(at: Desk) -> set[tuple[str, int, str]]:
    """File, line and kind of what the name at the cursor means."""
    mention = at.index.at(at.path, at.offset)
    assert mention is not None
    found = at.index.definitions(mention.symbols)
    return {(Path(path).name, m.span.line, kind) for path, m in found for kind in (s.kind for s in m.symbols)}


@pytest.mark.parametrize(
    ("before", "count", "file", "line", "kind"),
    [
        ("expert,", 1, "roles.mas", 4, "agent"),
        ("depth)", 1, "roles.mas", 3, "param"),
        ("small {", 1, "relay.mas", 3, "model"),
        ("question}", 1, "relay.mas", 13, "input"),
        ('expert("', 1, "roles.mas", 4, "agent"),
        ("maths ->", 1, "relay.mas", 14, "agent"),
        ("solver : kv", 1, "relay.mas", 9, "agent"),
        ("critic -> solver", 1, "roles.mas", 8, "agent"),
        ("answer\n}\ntrain", 1, "relay.mas", 13, "output"),
        ("answer <-", 1, "relay.mas", 13, "output"),
    ],
)
def test_definitions_in_the_main_file(
    tmp_path: Path, before: str, count: int, file: str, line: int, kind: Kind
) -> None:
    assert definitions(desk(tmp_path, cursor(MAIN, before, count))) == {(file, line, kind)}


@pytest.mark.parametrize(
    ("before", "file", "line", "kind"),
    [
        ("field}", "roles.mas", 4, "field"),
        ("question}", "relay.mas", 13, "input"),
        ("tutor}", "relay.mas", 5, "agent"),
        ("depth\n", "roles.mas", 3, "param"),
        ("small {", "roles.mas", 2, "model"),
    ],
)
def test_definitions_from_an_imported_file(tmp_path: Path, before: str, file: str, line: int, kind: Kind) -> None:
    assert definitions(desk(tmp_path, roles=cursor(ROLES, before))) == {(file, line, kind)}


def test_the_path_of_an_import_is_the_file(tmp_path: Path) -> None:
    at = desk(tmp_path, cursor(MAIN, "roles.mas"))
    target = at.index.imported(at.path, at.offset)
    assert target is not None
    assert Path(target).name == "roles.mas"
    assert at.index.imported(at.path, 0) is None


def test_an_options_own_word_is_no_parameter(tmp_path: Path) -> None:
    """`ridge` is a word of `align`, also where a parameter is called so."""
    roles = ROLES.replace("param depth", "param ridge: int = 1\nparam depth")
    at = desk(tmp_path, roles=cursor(roles, "ridge)"))
    assert at.index.at(at.path, at.offset) is None


def test_references_are_found_in_all_files(tmp_path: Path) -> None:
    at = desk(tmp_path, cursor(MAIN, "question) ->"))
    mention = at.index.at(at.path, at.offset)
    assert mention is not None
    places = {(Path(path).name, m.span.line) for path, m in at.index.of(mention.symbols)}
    assert places == {("relay.mas", 6), ("relay.mas", 10), ("relay.mas", 13), ("roles.mas", 5), ("roles.mas", 10)}
    without = list(at.index.of(mention.symbols, declarations=False))
    assert len(without) == len(places) - 1


def renamed(at: Desk, new: str) -> dict[str, str]:
    edits = rename(at.index, at.path, at.offset, new)
    return {Path(path).name: apply(at.texts[path], changed) for path, changed in edits.items()}


@pytest.mark.parametrize(
    ("before", "old", "new", "files"),
    [
        ("question) ->", "question", "task", {"relay.mas", "roles.mas"}),
        ("critic ->", "critic", "judge", {"relay.mas", "roles.mas"}),
        ("depth)", "depth", "latents", {"relay.mas", "roles.mas"}),
        ("tutor on", "tutor", "guide", {"relay.mas", "roles.mas"}),
        ("maths ->", "maths", "numbers", {"relay.mas"}),
    ],
)
def test_renaming_reaches_every_place(tmp_path: Path, before: str, old: str, new: str, files: set[str]) -> None:
    at = desk(tmp_path, cursor(MAIN, before))
    texts = renamed(at, new)
    assert set(texts) == files
    for name, text in texts.items():
        was = MAIN if name == "relay.mas" else ROLES
        assert text == was.replace('"mathematics"', "@").replace(old, new).replace("@", '"mathematics"')


def test_a_renamed_program_compiles_to_the_same(tmp_path: Path) -> None:
    at = desk(tmp_path, cursor(MAIN, "question) ->"))
    texts = renamed(at, "task")
    again = desk(tmp_path, texts["relay.mas"], roles=texts["roles.mas"])
    before, after = (d.compile(d.named("relay.mas")) for d in (at, again))
    assert [d.code for d in before.diagnostics] == [d.code for d in after.diagnostics]
    assert before.plan is not None
    assert after.plan is not None
    assert (before.plan.turns, before.plan.losses) == (after.plan.turns, after.plan.losses)


def test_a_field_is_renamed_in_its_template_alone(tmp_path: Path) -> None:
    texts = renamed(desk(tmp_path, roles=cursor(ROLES, "field: text")), "subject")
    assert texts == {"roles.mas": ROLES.replace("field", "subject")}


def test_a_template_is_renamed_with_its_fields_kept(tmp_path: Path) -> None:
    texts = renamed(desk(tmp_path, roles=cursor(ROLES, "expert(")), "scholar")
    assert texts["roles.mas"] == ROLES.replace("expert", "scholar")
    assert texts["relay.mas"] == MAIN.replace("expert", "scholar")


def test_a_shared_agents_placeholder_renames_the_inputs_of_all_graphs(tmp_path: Path) -> None:
    other = 'mas 1\nimport "roles.mas" (critic)\ngraph g(question, tutor) -> a {\n  critic\n}\n'
    texts = renamed(desk(tmp_path, cursor(MAIN, "question) ->"), other=other), "task")
    assert texts["other.mas"] == other.replace("question", "task")


@pytest.mark.parametrize(
    ("before", "new", "why"),
    [
        ("tutor on", "solver", "already means"),
        ("tutor on", "critic", "already means"),
        ("tutor on", "question", "already means"),
        ("tutor on", "answer", "already means"),
        ("maths ->", "tutor", "already means"),
        ("question) ->", "tutor", "already means"),
        ("tutor on", "two words", "not a name"),
        ("tutor on", "9lives", "not a name"),
        ("tutor on", "über", "not a name"),
        ("tutor on", "", "not a name"),
        ("tutor on", "true", "cannot stand"),
        ("tutor on", "forward", "cannot be called"),
        ("depth)", "expert2x-", "not a name"),
        ("kv(carry", "x", "no name here"),
    ],
)
def test_bad_names_are_refused(tmp_path: Path, before: str, new: str, why: str) -> None:
    with pytest.raises(RefusedError, match=why):
        renamed(desk(tmp_path, cursor(MAIN, before)), new)


def test_a_parameter_does_not_become_an_options_word(tmp_path: Path) -> None:
    main = MAIN.replace("model small", 'param how: text = "own"\nmodel small').replace("carry = own", "carry = how")
    assert "carry = which" in renamed(desk(tmp_path, cursor(main, "how: text")), "which")["relay.mas"]
    with pytest.raises(RefusedError, match="already means"):
        renamed(desk(tmp_path, cursor(main, "how: text")), "trace")


def test_a_file_that_cannot_be_read_in_full_is_not_renamed_in(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="errors in its syntax"):
        renamed(desk(tmp_path, cursor(MAIN.replace("  repeat 2 {", "  repeat 2"), "tutor on")), "guide")


def test_yaml_is_indexed_too(tmp_path: Path) -> None:
    yaml = (
        "mas: 1\nmodels: {small: no-one/x}\nagents:\n  solver:\n    on: small\n    user: '🙂 {question}'\n    answer:\n"
        "graph:\n  name: g\n  inputs: [question]\n  outputs: [a]\n  body:\n    - solver -> a\n"
    )
    at = desk(tmp_path)
    path = str(tmp_path / "x.yaml")
    from masc.lsp.index import build
    from masc.lsp.texts import load

    index = build(load([], {**at.texts, path: yaml}))
    edits = rename(index, path, yaml.index("question]"), "task")
    assert apply(yaml, edits[path]) == yaml.replace("question", "task")
    edits = rename(index, path, yaml.index("solver ->"), "judge")
    assert apply(yaml, edits[path]) == yaml.replace("solver", "judge")


def test_the_workspace_is_searched_without_artifacts(tmp_path: Path) -> None:
    for name in ("a.mas", "deep/b.yaml", "a.masc/a.mas", ".hidden/c.mas", "node_modules/d.mas", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("mas 1\n")
    assert [Path(p).name for p in workspace_files([str(tmp_path)])] == ["a.mas", "b.yaml"]
