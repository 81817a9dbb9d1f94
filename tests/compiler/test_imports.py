"""Programs of several files: what an import brings, and what is said where it cannot."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from masc.compiler.artifact import base_of, read_artifact, write_artifact
from masc.compiler.forms.plan_text import print_plan
from masc.compiler.pipeline import Compilation, compile_file, compile_source
from masc.dsl.diagnostics import Diagnostic, MascError
from masc.dsl.regular import read_regular
from masc.dsl.render import render, to_json
from masc.dsl.source import Source
from teams import said

ROLES = """\
mas 1
model small = "no-one/not-on-disk"
param depth: int = 3
agent critic on small {
  user "{question}"
  think depth
}
agent expert(field: text) on small {
  user "You know {field}. {question}"
  think depth
}
"""
MAIN = """\
mas 1
import "roles.mas" (critic)
model small = "no-one/not-on-disk"
agent solver on small {
  user "{question}"
  answer
}
graph relay(question) -> answer {
  critic -> solver : kv
}
"""
Write = Callable[..., Compilation]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Write files (`main` is `relay.mas`; `a/b.mas` is called so) and compile the main one, from its own folder."""
    monkeypatch.chdir(tmp_path)

    def write(main: str = MAIN, others: dict[str, str] | None = None, **settings: str) -> Compilation:
        for name, text in {"relay.mas": main, **({"roles.mas": ROLES} if others is None else others)}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        return compile_file("relay.mas", settings)

    return write


def steps(compilation: Compilation) -> dict[str, int]:
    assert compilation.graph is not None, said(compilation)
    return {agent.name: agent.steps for agent in compilation.graph.agents}


def models(compilation: Compilation) -> dict[str, str]:
    assert compilation.graph is not None, said(compilation)
    return {model.name: model.target for model in compilation.graph.models}


def only(compilation: Compilation, code: str) -> Diagnostic:
    assert said(compilation) == [code]
    return next(d for d in compilation.diagnostics if d.code == code)


def test_an_imported_agent_is_as_if_it_stood_here(program: Write) -> None:
    imported = program()
    here = MAIN.replace('import "roles.mas" (critic)\n', "param depth: int = 3\n").replace(
        "agent solver", 'agent critic on small {\n  user "{question}"\n  think depth\n}\nagent solver'
    )
    assert imported.require() == program(here).require()
    assert imported.imported == (("roles.mas", ROLES),)


def test_what_is_not_imported_is_not_there(program: Write) -> None:
    assert steps(program()) == {"critic": 3, "solver": 0}
    unknown = only(program(MAIN.replace("critic -> ", "critic -> expert -> ")), "E0201")
    assert "expert" in unknown.message


def test_set_reaches_every_file(program: Write) -> None:
    main = MAIN.replace("model small", "param depth: int = 1\nmodel small").replace(
        "  answer", "  think depth\n  answer"
    )
    assert steps(program(main)) == {"critic": 3, "solver": 1}
    assert steps(program(main, depth="5")) == {"critic": 5, "solver": 5}
    assert steps(program(depth="5")) == {"critic": 5, "solver": 0}
    assert only(program(detph="5"), "E0206").hint == "did you mean `depth`?"
    assert said(program(depth="x")) == ["E0403"]


def test_parameters_models_and_templates_are_imported(program: Write) -> None:
    main = (
        MAIN.replace("(critic)", "(expert, small, depth)")
        .replace('model small = "no-one/not-on-disk"\n', "")
        .replace("  answer\n", "  think depth\n  answer\n", 1)
        .replace("  critic ->", '  maths = expert("mathematics")\n  maths ->')
    )
    compilation = program(main)
    assert said(compilation) == []
    assert steps(compilation) == {"maths": 3, "solver": 3}
    assert models(compilation) == {"small": "no-one/not-on-disk"}


def test_imports_of_imports(program: Write) -> None:
    others = {"all.mas": 'mas 1\nimport "lib/roles.mas" (critic, expert)\n', "lib/roles.mas": ROLES}
    compilation = program(MAIN.replace("roles.mas", "all.mas"), others)
    assert steps(compilation) == {"critic": 3, "solver": 0}
    assert [where for where, _ in compilation.imported] == ["lib/roles.mas", "all.mas"]


def test_one_thing_by_two_ways_is_one_thing(program: Write) -> None:
    others = {"all.mas": 'mas 1\nimport "roles.mas" (critic)\n', "roles.mas": ROLES}
    assert said(program(MAIN.replace("(critic)", '(critic)\nimport "./all.mas" (critic)'), others)) == []


def test_yaml_imports_and_is_imported(program: Write, tmp_path: Path) -> None:
    roles = (
        'mas: 1\nmodels: {small: no-one/not-on-disk}\nagents:\n  critic: {on: small, user: "{question}", think: 3}\n'
    )
    assert steps(program(MAIN.replace("roles.mas", "roles.yaml"), {"roles.yaml": roles})) == {"critic": 3, "solver": 0}
    (tmp_path / "main.yaml").write_text(
        "mas: 1\nimports: [{from: roles.yaml, names: [critic]}]\nmodels: {small: no-one/not-on-disk}\nagents:\n"
        '  solver: {on: small, user: "{question}", answer: {}}\n'
        "graph: {name: relay, inputs: [question], outputs: [answer], body: ['critic -> solver : kv']}\n"
    )
    assert compile_file("main.yaml").require() == compile_file("relay.mas").require()


def test_programs_are_libraries_too(program: Write) -> None:
    roles = ROLES + "graph review(text) -> verdict {\n  nobody -> verdict\n}\ntrain {\n  steps 0\n}\n"
    compilation = program(others={"roles.mas": roles})
    assert said(compilation) == []
    assert compilation.require().train.steps != 0


# the imported file's target for `small`, then the models of the program
OTHER_MODELS = [
    ("no-one/not-on-disk", {"small": "no-one/not-on-disk"}),
    ("no-one/else", {"small": "no-one/not-on-disk", "small_my_roles": "no-one/else"}),
]


@pytest.mark.parametrize(("target", "expected"), OTHER_MODELS)
def test_models_of_one_name(program: Write, target: str, expected: dict[str, str]) -> None:
    roles = ROLES.replace("no-one/not-on-disk", target)
    edge = MAIN.replace(": kv", ": hidden").replace("roles.mas", "my-roles.mas")
    compilation = program(edge, {"my-roles.mas": roles})
    assert models(compilation) == expected
    assert compilation.graph is not None
    assert compilation.graph.agent("critic").model == list(expected)[-1]


def test_local_models_lie_beside_the_file_that_names_them(program: Write, tmp_path: Path) -> None:
    others = {"lib/roles.mas": ROLES.replace("no-one/not-on-disk", "./tiny")}
    compilation = program(MAIN.replace("roles.mas", "lib/roles.mas"), others)
    assert str(tmp_path / "lib" / "tiny") in models(compilation).values()


# main, the other files, then code, line, column, the texts of the labels, part of message or hint
WRONG = [
    (MAIN.replace("(critic)", "(critc)"), {}, "E0209", 2, 21, ["`critic` is declared here"], "did you mean `critic`?"),
    (MAIN.replace("(critic)", "(critic, zz)"), {}, "E0209", 2, 29, [], "it declares depth, small, critic, expert"),
    (
        MAIN.replace("(critic)", "(critic, review)"),
        {"roles.mas": ROLES + "graph review(q) -> a {\n  critic -> a\n}\n"},
        "E0209",
        2,
        29,
        ["the graph"],
        "a graph cannot",
    ),
    (
        MAIN.replace("agent solver", 'agent critic on small {\n  user "{question}"\n}\nagent solver'),
        {},
        "E0210",
        4,
        7,
        ["imported here"],
        "declared here, and imported",
    ),
    (MAIN.replace("(critic)", "(critic, small)"), {}, "E0210", 3, 7, ["imported here"], "the model `small`"),
    (
        MAIN.replace("(critic)", '(critic)\nimport "b.mas" (critic)'),
        {"roles.mas": ROLES, "b.mas": ROLES},
        "E0210",
        3,
        17,
        ["imported from `roles.mas` here"],
        "different things",
    ),
    (MAIN.replace("(critic)", "(critic, critic)"), {}, "E0202", 2, 29, ["first given here"], "keep one"),
    (MAIN.replace("roles.mas", "role.mas"), {}, "E0130", 2, 8, [], "did you mean `roles.mas`?"),
    (MAIN.replace("roles.mas", "roles.txt"), {}, "E0133", 2, 8, [], "the suffixes are"),
    (MAIN.replace("roles.mas", ""), {}, "E0131", 2, 8, [], "name the file"),
    (MAIN.replace("roles.mas", "r" * 300 + ".mas"), {}, "E0134", 2, 8, [], "cannot be read"),
    (MAIN.replace("roles.mas", "r\\u0000.mas"), {}, "E0134", 2, 8, [], "cannot be read"),
    (MAIN.replace("roles.mas", "relay.mas"), {}, "E0211", 2, 8, [], "`relay.mas` imports itself"),
    (MAIN, {"roles.mas": ROLES.replace("think depth", "thin depth", 1)}, "E0104", 6, 3, ["imported here"], ""),
    (MAIN, {"roles.mas": ROLES.replace("critic on small", "critic on smal")}, "E0201", 4, 17, ["imported here"], ""),
    (MAIN, {"roles.mas": ROLES.replace("int = 3", "int = -1")}, "E0404", 6, 9, None, "at least 0"),
    (MAIN, {"roles.mas": ROLES.replace("{question}", "{text}", 1)}, "E0207", 5, 9, ["imported here"], ""),
    (MAIN.replace("(critic)", "(critic, depth)"), {}, "W0205", 2, 29, [], "take it out"),
    (MAIN.replace("  critic -> solver : kv", "  solver"), {}, "W0205", 2, 21, [], "take it out"),
]


@pytest.mark.parametrize(("main", "others", "code", "line", "column", "labels", "words"), WRONG)
def test_wrong_imports(
    program: Write,
    main: str,
    others: dict[str, str],
    code: str,
    line: int,
    column: int,
    labels: list[str] | None,
    words: str,
) -> None:
    compilation = program(main, {"roles.mas": ROLES, **others})
    found = compilation.diagnostics[[d.code for d in compilation.diagnostics].index(code)]
    assert {d.code for d in compilation.diagnostics if d.severity == "error"} <= {code}
    assert found.span is not None
    assert (found.span.line, found.span.column) == (line, column)
    if labels is not None:
        assert [label.text for label in found.labels] == labels
    assert words in f"{found.message} {found.hint}"


def test_a_cycle_shows_its_path_and_every_import_in_it(program: Write) -> None:
    others = {
        "a.mas": 'mas 1\nimport "lib/b.mas" (critic)\n',
        "lib/b.mas": 'mas 1\nimport "../c.mas" (critic)\n',
        "c.mas": 'mas 1\nimport "a.mas" (critic)\n',
    }
    found = only(program(MAIN.replace("roles.mas", "a.mas"), others), "E0211")
    assert found.message.endswith(": a.mas -> lib/b.mas -> c.mas -> a.mas")
    assert found.span is not None
    assert found.span.source.path == "c.mas"
    assert [label.span.text for label in found.labels] == ['"lib/b.mas"', '"../c.mas"']


def test_two_cycles_are_two_errors(program: Write) -> None:
    main = MAIN.replace("(critic)", '(critic)\nimport "b.mas" (solver)')
    others = {
        "roles.mas": 'mas 1\nimport "relay.mas" (solver)\n' + ROLES.removeprefix("mas 1\n"),
        "b.mas": 'mas 1\nimport "b.mas" (solver)\n',
    }
    compilation = program(main, others)
    assert said(compilation) == ["E0211", "E0211"]


def test_a_file_is_read_once(program: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[str] = []

    def noted(path: Path, most: int) -> bytes:
        reads.append(path.name)
        return read_regular(path, most)

    monkeypatch.setattr("masc.dsl.read.read_regular", noted)
    others = {"all.mas": 'mas 1\nimport "roles.mas" (critic)\n', "roles.mas": ROLES}
    program(MAIN.replace("(critic)", '(critic)\nimport "all.mas" (critic)\nimport "./roles.mas" (expert)'), others)
    assert sorted(reads) == ["all.mas", "relay.mas", "roles.mas"]


def test_a_long_chain_of_imports(program: Write) -> None:
    others = {f"f{i}.mas": f'mas 1\nimport "f{i + 1}.mas" (critic)\n' for i in range(1200)}
    others["f1200.mas"] = ROLES
    assert said(program(MAIN.replace("roles.mas", "f0.mas"), others)) == []


def test_errors_of_an_imported_file_are_shown_in_it(program: Write) -> None:
    compilation = program(others={"roles.mas": ROLES.replace("critic on small", "critic on smal")})
    shown = [d for d in compilation.diagnostics if d.severity == "error"]
    assert render(shown) == (
        "error[E0201]: there is no model `smal`\n"
        " --> roles.mas:4:17\n"
        "  |\n"
        "4 | agent critic on smal {\n"
        "  |                 ^^^^\n"
        " ::: relay.mas:2:8\n"
        "  |\n"
        '2 | import "roles.mas" (critic)\n'
        "  |        ----------- imported here\n"
        "  = hint: did you mean `small`?\n"
    )
    (plain,) = json.loads(json.dumps(to_json(shown)))
    assert (plain["path"], plain["labels"][0]["path"]) == ("roles.mas", "relay.mas")


def test_paths_are_shown_from_where_one_stands(program: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(others={"roles.mas": ROLES.replace("critic on small", "critic on smal")})
    monkeypatch.chdir(tmp_path.parent)
    for path in (f"{tmp_path.name}/relay.mas", str(tmp_path / "relay.mas")):
        found = only(compile_file(path), "E0201")
        assert found.span is not None
        assert found.span.source.path == path.replace("relay", "roles")


# -- artifacts --------------------------------------------------------------------------------------------------------


def test_an_artifact_holds_what_is_imported_and_can_be_moved_alone(program: Write, tmp_path: Path) -> None:
    others = {"lib/all.mas": 'mas 1\nimport "../roles.mas" (critic)\n', "roles.mas": ROLES}
    compilation = program(MAIN.replace("roles.mas", "lib/all.mas"), others)
    root = tmp_path / "relay.masc"
    write_artifact(root, compilation)
    assert (root / "lib" / "all.mas").read_text() == others["lib/all.mas"]
    assert (root / "roles.mas").read_text() == ROLES
    # an artifact is what was compiled, whatever becomes of the originals
    (tmp_path / "roles.mas").write_text(ROLES.replace("int = 3", "int = 4"))
    copy = compile_file(root / "relay.mas", base=base_of(read_artifact(root)))
    assert steps(copy)["critic"] == 3
    moved = tmp_path / "elsewhere" / "relay.masc"
    moved.parent.mkdir()
    shutil.move(root, moved)
    for name in ("lib/all.mas", "roles.mas", "relay.mas"):
        (tmp_path / name).unlink()
    alone = compile_file(moved / "relay.mas", base=base_of(read_artifact(moved)))
    assert print_plan(alone.require()) == print_plan(compilation.require())
    assert print_plan(compile_file(moved / "relay.mas").require()) == print_plan(compilation.require())


def test_what_lies_outside_is_not_copied(program: Write, tmp_path: Path) -> None:
    outside = tmp_path.parent / f"{tmp_path.name}-roles.mas"
    outside.write_text(ROLES)
    imports = f'import "../{outside.name}" (critic)\nimport "{outside}" (expert)\nimport "adapters/x.mas" (depth)'
    compilation = program(MAIN.replace('import "roles.mas" (critic)', imports), {"adapters/x.mas": ROLES})
    write_artifact(tmp_path / "relay.masc", compilation)
    found = sorted(p.name for p in (tmp_path / "relay.masc").rglob("*"))
    assert found == [".lock", "manifest.json", "plan.json", "relay.mas"]


def test_an_import_of_the_original_is_one_of_its_copy(program: Write, tmp_path: Path) -> None:
    write_artifact(tmp_path / "relay.masc", program())
    (tmp_path / "relay.masc" / "roles.mas").unlink()  # then the original stands in for it
    (tmp_path / "roles.mas").write_text(ROLES.replace("mas 1\n", 'mas 1\nimport "relay.mas" (solver)\n'))
    assert "E0211" in said(compile_file("relay.masc/relay.mas"))


def test_what_an_editor_holds_is_read_instead_of_the_file(program: Write, tmp_path: Path) -> None:
    program()
    held = {os.path.realpath(tmp_path / "roles.mas"): ROLES.replace("int = 3", "int = 7")}
    compilation = compile_source(Source(str(tmp_path / "relay.mas"), MAIN), base=tmp_path, texts=held)
    assert steps(compilation)["critic"] == 7


LIBRARY = 'mas 1\nmodel m = "no-one/none"\nparam n: int = 2\nagent a on m {\n  user "x"\n  think n\n}\n'


@pytest.mark.parametrize(
    ("text", "read", "run"),
    [
        (LIBRARY, [], ["E0301"]),
        ('mas 1\nmodel m = "no-one/none"\n', [], ["E0301"]),
        ("mas 1\n", ["E0301"], ["E0301"]),
        (LIBRARY + "train {\n  steps 3\n}\n", ["E0301"], ["E0301"]),
        (LIBRARY.replace("on m", "on n"), ["E0201"], ["E0201", "E0301"]),
        (LIBRARY.replace("no-one/none", "./nowhere"), ["E0502"], ["E0502", "E0301"]),
        (LIBRARY.replace("think n", "think 1 (align = ridgy)"), ["E0405"], ["E0405", "E0301"]),
    ],
)
def test_a_file_without_a_graph_is_fine_to_read_and_not_to_run(text: str, read: list[str], run: list[str]) -> None:
    compilation = compile_source(Source("roles.mas", text))
    assert [d.code for d in compilation.of_the_text if d.severity != "info"] == read
    assert [d.code for d in compilation.diagnostics if d.severity != "info"] == run
    with pytest.raises(MascError, match="E0301"):
        compilation.require()
