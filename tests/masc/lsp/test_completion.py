"""What is offered where, in texts as they are while somebody types."""

from __future__ import annotations

from pathlib import Path

import pytest

from editor import MAIN, ROLES, desk
from masc.compiler.language.alignments import ALIGNMENTS
from masc.compiler.language.models import LOADS
from masc.lsp.completion import Item, complete

DECLARATIONS = {"import", "model", "param", "agent", "graph", "train"}
HEAD = """\
mas 1
import "roles.mas" (expert, critic, depth)
model small = "no-one/not-on-disk"
param many: int = 2
param told: text = "x"
agent tutor on small {
  user "{question}"
  answer
}
"""
GRAPH = """
graph relay(question, hint) -> answer {
  maths = expert("mathematics")
  tutor -> critic : text
  critic -> tutor : hidden
}
"""

MEMBERS = {"system", "user", "think", "adapt", "answer", "template"}


def offered(folder: Path, text: str, **others: str) -> list[Item]:
    at = desk(folder, text, **others)
    return complete(at.index, at.path, at.offset)


def labels(folder: Path, text: str, **others: str) -> set[str]:
    return {item.label for item in offered(folder, text, **others)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("‸", {"mas"}),
        ("mas 1\n‸", DECLARATIONS),
        ("mas 1\nag‸", DECLARATIONS),
        ("mas 1\nagent a ‸", {"on"}),
        (HEAD + "‸" + GRAPH, DECLARATIONS),
        (HEAD + "agent a on ‸" + GRAPH, {"small"}),
        (HEAD + "agent a on sm‸ {\n}" + GRAPH, {"small"}),
        (HEAD + "agent a on small {\n  ‸\n}" + GRAPH, MEMBERS),
        (HEAD + "agent a on small {\n  thnk 3\n  ‸\n}" + GRAPH, MEMBERS),
        ('mas 1\nmodel m = "x" (load = nf4, ‸)', {"revision", "template", "device"}),
        ('mas 1\nmodel m = "x" (load = ‸)', {*LOADS}),
        (HEAD + "agent a on small {\n  think ‸\n}" + GRAPH, {"many", "told", "depth"}),
        (HEAD + "agent a(deep: int) on small {\n  think ‸\n}" + GRAPH, {"deep", "many", "told", "depth"}),
        (HEAD + "agent a(deep: ‸) on small {\n}" + GRAPH, {"int", "float", "bool", "text", "input"}),
        (HEAD + "agent a on small {\n  think 3 (‸\n}" + GRAPH, {"align", "gradient"}),
        (
            HEAD + "agent a on small {\n  think 3 (align = ‸)\n}" + GRAPH,
            {*ALIGNMENTS, "many", "told", "depth"},
        ),
        (HEAD + "agent a on small {\n  adapt ‸\n}" + GRAPH, {"lora", "none", "as"}),
        (HEAD + "agent a on small {\n  adapt as ‸\n}" + GRAPH, {"a", "tutor", "critic", "maths"}),
        (
            HEAD + "agent a on small {\n  adapt lora(rank = 3, ‸)\n}" + GRAPH,
            {"alpha", "targets", "dropout", "rslora", "dora"},
        ),
        (
            HEAD + "agent a on small {\n  adapt lora(targets = [q_proj, ‸])\n}" + GRAPH,
            {"k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"},
        ),
        (
            HEAD + "agent a on small {\n  answer (‸)\n}" + GRAPH,
            {"max_tokens", "temperature", "top_p", "seed", "stop"},
        ),
        (HEAD + GRAPH.replace("  tutor ->", "  ‸\n  tutor ->"), {"tutor", "critic", "maths", "repeat"}),
        (HEAD + GRAPH.replace("  tutor -> critic", "  tutor -> ‸"), {"tutor", "critic", "maths", "answer"}),
        (HEAD + GRAPH.replace("  tutor -> critic", "  [tutor, ‸] -> critic"), {"critic", "maths"}),
        (HEAD + GRAPH.replace(": text", ": ‸"), {"kv", "hidden", "fuse", "text"}),
        (HEAD + GRAPH.replace(": text", ": kv(‸"), {"carry", "merge", "layers", "gradient", "gate", "open"}),
        (HEAD + GRAPH.replace(": text", ": kv(merge = stack, ‸)"), {"carry", "layers", "gradient", "gate", "open"}),
        (HEAD + GRAPH.replace(": text", ": kv(merge = ‸)"), {"overlap", "stack", "many", "told", "depth"}),
        (HEAD + GRAPH.replace(": text", ": kv(open = 40 ‸)"), {"as"}),
        (HEAD + GRAPH.replace(": text", ": kv(carry = own ‸)"), set()),
        (HEAD + GRAPH.replace(": text", ": kv(open = 40 as ‸)"), {"trace", "own", "latents", "many", "told", "depth"}),
        (HEAD + GRAPH.replace('expert("mathematics")', "‸"), {"expert"}),
        (HEAD + GRAPH.replace('"mathematics"', "‸"), {"many", "told", "depth", "question", "hint"}),
        (HEAD + GRAPH.replace("  tutor ->", "  repeat ‸\n  tutor ->"), {"many", "told", "depth"}),
        (HEAD + "train {\n  dtype ‸\n}", {"float32", "bfloat16", "many", "told", "depth"}),
        (HEAD + "train {\n  answer <- ‸\n}", set()),
        ("mas 1\nparam x: ‸", {"int", "float", "bool", "text"}),
        ("mas 1\nparam x: bool = ‸", {"true", "false"}),
        ('mas 1\nimport "roles.mas" (expert, ‸)', {"critic", "depth", "small"}),
        ('mas 1\nmodel small = "‸"', {"smollm2-135m", "gemma3-270m"}),
        ("mas 1\n# a word ‸", set()),
        (HEAD.replace("{question}", "plain text ‸"), set()),
    ],
)
def test_what_is_offered(tmp_path: Path, text: str, expected: set[str]) -> None:
    assert labels(tmp_path, text) == expected


@pytest.mark.parametrize("end", ['}"', '"', '} and more {question}"'])
def test_placeholders_are_fields_inputs_and_senders(tmp_path: Path, end: str) -> None:
    main = HEAD.replace('{question}"', "🙂 {‸" + end) + GRAPH
    found = offered(tmp_path, main)
    assert {item.label for item in found} == {"question", "hint", "critic"}
    closed = end.startswith("}")
    assert {item.text for item in found if item.label == "hint"} == {"hint" if closed else "hint}"}


def test_placeholders_of_an_imported_template_are_those_of_the_graph(tmp_path: Path) -> None:
    roles = ROLES.replace('"You know {field}', '"You know {fi‸}')
    found = offered(tmp_path, HEAD + GRAPH, roles=roles)
    assert {item.label for item in found} == {"field", "question", "hint"}
    assert {(item.start, item.end) for item in found} == {(roles.index("‸") - 2, roles.index("‸"))}


def test_a_brace_that_stands_twice_opens_nothing(tmp_path: Path) -> None:
    assert labels(tmp_path, HEAD.replace("{question}", "{{‸") + GRAPH) == set()
    assert "question" in labels(tmp_path, HEAD.replace("{question}", "{{{‸") + GRAPH)


def test_a_word_is_replaced_whole(tmp_path: Path) -> None:
    text = MAIN.replace("critic -> solver : kv\n", "cr‸itic -> solver : kv\n")
    item = next(item for item in offered(tmp_path, text) if item.label == "tutor")
    plain = text.replace("‸", "")
    assert plain[item.start : item.end] == "critic"


def test_entries_of_train(tmp_path: Path) -> None:
    found = {item.label: item.text for item in offered(tmp_path, HEAD + GRAPH + "train {\n  ‸\n}")}
    assert found["answer"] == "answer <- "
    assert found["steps"] == "steps "
    again = labels(tmp_path, HEAD + GRAPH + "train {\n  batch 8 ‸\n}")
    assert "steps" in again


def test_columns_are_those_of_the_data(tmp_path: Path) -> None:
    text = 'mas 1\ntrain {\n  data "rows.jsonl"\n  answer <- ‸\n}'
    assert labels(tmp_path, text) == set(), "there is no such file"
    (tmp_path / "rows.jsonl").write_text('{"question": "1 + 1", "solution": "2", "no name": 0}\n')
    assert labels(tmp_path, text) == {"question", "solution", "no name"}
    for typed, written in (("‸", '"no name"'), ('"n‸"', "no name"), ('"n‸', 'no name"')):
        found = {item.label: item.text for item in offered(tmp_path, text.replace("‸", typed))}
        assert found["no name"] == written
    (tmp_path / "rows.csv").write_text("Question Text,solution\n1,2\n")
    assert labels(tmp_path, text.replace("rows.jsonl", "rows.csv")) == {"Question Text", "solution"}
    (tmp_path / "rows.jsonl").write_text("[1, 2]\n")
    assert labels(tmp_path, text) == set()


def test_files_are_offered_by_folder(tmp_path: Path) -> None:
    (tmp_path / "more").mkdir()
    for name in ("a.mas", "b.yaml", "c.jsonl", "more/d.mas"):
        (tmp_path / name).write_text("")
    assert labels(tmp_path, 'mas 1\nimport "‸" ()') == {"a.mas", "b.yaml"}
    assert labels(tmp_path, 'mas 1\nimport "more/‸"') == {"more/d.mas"}
    assert labels(tmp_path, 'mas 1\ntrain {\n  data "‸"\n}') == {"c.jsonl"}


def test_folders_are_offered_to_begin_with(tmp_path: Path) -> None:
    (tmp_path / "trained" / "critic").mkdir(parents=True)
    (tmp_path / "trained" / "critic" / "adapter_config.json").write_text("{}")
    (tmp_path / "a.mas").write_text("")
    text = 'mas 1\nagent a on small {\n  adapt lora() from "‸"\n}'
    assert labels(tmp_path, text) == {"./trained"}
    inside = {item.label: item.detail for item in offered(tmp_path, text.replace("‸", "./trained/‸"))}
    assert inside == {"./trained/critic": "a trained adapter"}
    assert "from" in labels(tmp_path, text.replace('from "‸"', "‸"))


def test_yaml_gets_none(tmp_path: Path) -> None:
    at = desk(tmp_path)
    assert complete(at.index, str(tmp_path / "x.yaml"), 0) == []
