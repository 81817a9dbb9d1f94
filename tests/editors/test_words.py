"""Editors colour and offer the words that the language has, and no others."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from masc.compiler.channels import CHANNELS
from masc.compiler.language.adapters import ADAPTERS, LORA
from masc.compiler.language.agents import ANSWER, THINK
from masc.compiler.language.models import MODEL
from masc.compiler.language.objectives import OBJECTIVES
from masc.compiler.language.train import TRAIN
from masc.compiler.resolve.params import FIELD_TYPES
from masc.dsl.tokens import KEYWORDS
from masc.lsp import words

ROOT = Path(__file__).parents[2]
EDITORS = ROOT / "editors"
GRAMMAR = (ROOT / "dsl" / "grammar.lark").read_text(encoding="utf-8")
COLOURS = json.loads((EDITORS / "vscode" / "syntaxes" / "mas.tmLanguage.json").read_text(encoding="utf-8"))
TREE_SITTER = (EDITORS / "tree-sitter-mas" / "grammar.js").read_text(encoding="utf-8")

LARK = set(re.findall(r'"([a-z]+)"', GRAMMAR))
TRUTHS = {"true", "false"}


def test_the_parser_knows_the_keywords_of_the_grammar() -> None:
    assert set(KEYWORDS.values()) | TRUTHS == LARK


def test_completion_offers_the_keywords_of_the_grammar() -> None:
    assert set(words.KEYWORDS) | TRUTHS == LARK


def test_tree_sitter_has_the_keywords_of_the_grammar() -> None:
    rules = re.sub(r'field\("\w+"', "", TREE_SITTER.partition("rules: {")[2])
    assert set(re.findall(r'"([a-z]+)"', rules)) == LARK


def test_textmate_has_the_keywords_of_the_grammar() -> None:
    assert set(coloured("keyword")) == LARK - TRUTHS
    assert set(coloured("constant.language.boolean")) == TRUTHS


def test_textmate_has_the_words_of_the_option_tables() -> None:
    assert set(coloured("storage.type")) == set(FIELD_TYPES)
    assert set(coloured("entity.name.type.channel")) == set(CHANNELS)
    assert set(coloured("entity.name.type.adapter")) == set(ADAPTERS)
    assert set(coloured("variable.parameter.entry")) == set(TRAIN)
    assert set(coloured("entity.name.type.objective")) == set(OBJECTIVES)
    tables = [MODEL, THINK, LORA, ANSWER, *(channel.options for channel in CHANNELS.values())]
    tables += [aim.options for aim in OBJECTIVES.values()]
    options = {name for table in tables for name in table}
    assert set(coloured("variable.parameter.option")) == options


def test_highlights_name_what_the_grammar_has() -> None:
    queries = (EDITORS / "tree-sitter-mas" / "queries" / "highlights.scm").read_text(encoding="utf-8")
    rules = set(re.findall(r"^    (\w+): \(", TREE_SITTER, re.MULTILINE))
    literals = set(re.findall(r'"([^"\s]+)"', TREE_SITTER)) | {'"'}
    fields = set(re.findall(r'field\("(\w+)"', TREE_SITTER))
    assert set(re.findall(r"\((\w+)", queries)) <= rules
    assert set(re.findall(r'"([^"]+)"', queries)) <= literals
    assert set(re.findall(r"(\w+): ", queries)) <= fields
    assert set(re.findall(r'"([a-z]+)"', queries)) == LARK - TRUTHS


def coloured(scope: str) -> Iterator[str]:
    """The words in the groups of the grammar's patterns that get a scope."""
    for rule in rules(COLOURS):
        for pattern, captures in (("match", "captures"), ("begin", "beginCaptures")):
            if pattern not in rule:
                continue
            names = {int(n): c["name"] for n, c in rule.get(captures, {}).items()}
            names |= {1: rule["name"]} if rule.get("name", "").startswith(scope) else {}
            for number, name in names.items():
                words = groups(rule[pattern])[number - 1 : number]
                if name.startswith(scope) and words and re.fullmatch(r"[a-z_|]+", words[0]):
                    yield from words[0].split("|")


def rules(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from rules(child)


def groups(pattern: str) -> list[str]:
    """What stands in the groups of a pattern that capture (those in question hold no group themselves)."""
    return re.findall(r"(?<!\\)\((?!\?)((?:[^()\\]|\\.)*)\)", pattern)
