"""The tree-sitter grammar reads what masc reads.

tree-sitter's own generator is not at hand here. Its grammar is a program for node, which says the rules; Lark makes an
LALR parser with a lexer for each state of them, which is what tree-sitter does too (but for precedence, that there is
none of between rules). So a conflict, a rule that is wrong and a tree that is not as written are found all the same.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedInput

from dsl_trees import files, grammatical
from masc.dsl.formatter import format_file
from masc.dsl.parser import parse
from masc.dsl.source import Source

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "editors" / "tree-sitter-mas"
EXAMPLES = sorted((ROOT / "examples").rglob("*.mas"))
LANGUAGE = re.findall(r"^```mas\n(.*?)^```$", (ROOT / "docs" / "language.md").read_text(encoding="utf-8"), re.M | re.S)
CORPUS = re.findall(
    r"^=+\n([^\n]+)\n=+\n(.*?)\n---\n(.*?)(?=^==|\Z)",
    (FOLDER / "test" / "corpus" / "programs.txt").read_text(encoding="utf-8"),
    re.MULTILINE | re.DOTALL,
)
LEAVES = {"TOKEN", "IMMEDIATE_TOKEN", "PATTERN", "STRING"}


@pytest.fixture(scope="module")
def grammar() -> Lark:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    done = subprocess.run([node, str(FOLDER / "test" / "rules.js")], capture_output=True, text=True, check=True)
    return Lark(translated(json.loads(done.stdout)), start="file_", parser="lalr", lexer="contextual", strict=False)


def translated(grammar: dict[str, Any]) -> str:
    """The rules for Lark: `name_` for `name`, terminals in capitals."""
    terminals: list[str] = []

    def leaf(node: dict[str, Any], name: str) -> str:
        priority = 0
        while "content" in node:
            priority += node.get("value", 0) if node["type"] == "PREC" else 0
            node = node["content"]
        if node["type"] == "STRING":
            return json.dumps(node["value"])
        pattern = node["value"].replace("/", "\\/").replace("\\\\/", "\\/")
        terminals.append(f"{name}.{priority}: /{pattern}/")
        return name

    def written(node: dict[str, Any], name: str) -> str:
        match node["type"]:
            case "SYMBOL":
                return f"{node['name']}_"
            case "SEQ":
                return f"({' '.join(written(each, name) for each in node['members'])})"
            case "CHOICE":
                choices = [written(each, name) for each in node["members"] if each["type"] != "BLANK"]
                return f"({' | '.join(choices)})" + ("?" if len(choices) < len(node["members"]) else "")
            case "REPEAT" | "REPEAT1":
                return written(node["content"], name) + ("*" if node["type"] == "REPEAT" else "+")
            case "FIELD":
                return written(node["content"], name)
            case _:
                return leaf(node, name)

    extras = {node["name"] for node in grammar["extras"] if node["type"] == "SYMBOL"}
    lines = [
        f"{name}_: {written(node, name.strip('_').upper())}"
        for name, node in grammar["rules"].items()
        if name not in extras
    ]
    for number, node in enumerate(grammar["extras"]):
        node = grammar["rules"][node["name"]] if node["type"] == "SYMBOL" else node
        lines.append(f"%ignore {leaf(node, f'EXTRA{number}')}")
    return "\n".join([*terminals, *lines])


def read(grammar: Lark, text: str) -> Tree[Token]:
    """The tree of a text. A keyword that does not fit is a name, as tree-sitter's `word` says."""
    run = grammar.parse_interactive(text)
    for token in run.lexer_thread.lex(run.parser_state):
        if token.isidentifier() and token.type not in run.accepts():
            token = Token.new_borrow_pos("NAME", str(token), token)
        run.feed_token(token)
    tree: Tree[Token] = run.feed_eof()
    return tree


def shape(tree: Tree[Token]) -> list[Any]:
    """The visible nodes."""
    return [str(tree.data).removesuffix("_"), *(shape(kid) for kid in tree.children if isinstance(kid, Tree))]


def wanted(text: str) -> list[Any]:
    """The nodes of an expression in brackets, without comments, which may stand anywhere."""
    text = re.sub(r"\s*\(comment\)", "", text.strip())
    quoted = re.sub(r"\((\w+)", r'["\1",', text).replace(")", "],")
    made: list[Any] = json.loads(re.sub(r",(\s*\])", r"\1", quoted.rstrip(",")))
    return made


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_example_is_read(grammar: Lark, path: Path) -> None:
    read(grammar, path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("text", LANGUAGE, ids=lambda text: re.findall(r"graph (\w+)", text)[0])
def test_every_construct_of_the_language_is_read(grammar: Lark, text: str) -> None:
    read(grammar, text)


@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
@given(text=st.one_of(grammatical, files.map(format_file)))
def test_whatever_masc_reads_is_read(grammar: Lark, text: str) -> None:
    if not parse(Source("x.mas", text))[1]:
        read(grammar, text)


def test_the_language_is_found() -> None:
    assert len(LANGUAGE) > 5


@pytest.mark.parametrize(("title", "text", "expected"), CORPUS, ids=[title for title, _, _ in CORPUS])
def test_the_corpus_has_the_trees_that_it_says(grammar: Lark, title: str, text: str, expected: str) -> None:
    assert shape(read(grammar, text)) == wanted(expected)
    tree, found = parse(Source("x.mas", text))
    assert tree is not None
    assert not found, "masc reads it too"


@pytest.mark.parametrize(
    "text",
    [
        "model m = 1",
        "mas 1\nmodel m = ",
        "mas 1\nagent a { }",
        'mas 1\nagent a on m { user "\\q" }',
        "mas 1\ngraph g(q) -> a { a -> }",
        "mas 1\ngraph g(q) { a }",
        "mas 1\ntrain { batch }",
        "mas 1\nagent a on m { think (align = norm) }",
    ],
)
def test_what_masc_refuses_is_refused(grammar: Lark, text: str) -> None:
    assert parse(Source("x.mas", text))[1]
    with pytest.raises(UnexpectedInput):
        read(grammar, text)
