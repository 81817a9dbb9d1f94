"""What holds for any text and for any tree."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields, is_dataclass

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dsl_trees import SKETCH, YAML_SKETCH, files, mutated, texts
from masc.dsl.diagnostics import Diagnostic, errors
from masc.dsl.dump import dump
from masc.dsl.formatter import format_file
from masc.dsl.parser import parse
from masc.dsl.read import read_source
from masc.dsl.render import render, to_json
from masc.dsl.source import Source, Span
from masc.dsl.syntax import File

quick = settings(deadline=None, suppress_health_check=list(HealthCheck))


def spans(node: object) -> list[Span]:
    """Every span in a tree."""
    if isinstance(node, Span):
        return [node]
    if isinstance(node, tuple):
        return [span for child in node for span in spans(child)]
    if is_dataclass(node):
        return [span for field in fields(node) for span in spans(getattr(node, field.name))]
    return []


def comments(node: object) -> Counter[str]:
    """Every comment in a tree, however often it stands there."""
    found: Counter[str] = Counter()
    if isinstance(node, tuple):
        for child in node:
            found += comments(child)
    elif is_dataclass(node) and not isinstance(node, Span):
        for field in fields(node):
            value = getattr(node, field.name)
            if field.name in ("leading", "inner", "header", "trailer"):
                found.update(value)
            elif field.name == "trailing":
                found.update([] if value is None else [value])
            else:
                found += comments(value)
    return found


def check_any(text: str, path: str) -> None:
    source = Source(path, text)
    file, diagnostics = read_source(source)
    places: list[Span] = spans(file)
    for diagnostic in diagnostics:
        assert isinstance(diagnostic, Diagnostic)
        assert diagnostic.span is not None
        places += [diagnostic.span, *(label.span for label in diagnostic.labels)]
    for span in places:
        assert span.source is source
        assert 0 <= span.start <= span.end <= len(text)
    assert file is not None or errors(diagnostics)
    assert render(diagnostics, color=True) or not diagnostics
    assert len(to_json(diagnostics)) == len(diagnostics)
    if file is not None:
        assert dump(file)
        if not diagnostics:
            check_kept(file)


def check_kept(file: File) -> None:
    """Formatting keeps the tree and the comments, and is idempotent."""
    text = format_file(file)
    again, diagnostics = parse(Source("again.mas", text))
    assert not diagnostics
    assert again == file
    assert dump(again, spans=False) == dump(file, spans=False)  # tells 1 from 1.0 and true
    assert comments(again) == comments(file)
    assert format_file(again) == text


@quick
@given(texts)
@pytest.mark.parametrize("path", ["any.mas", "any.yaml"])
def test_any_text(path: str, text: str) -> None:
    check_any(text, path)


@quick
@given(st.data())
@pytest.mark.parametrize(("path", "text"), [("some.mas", SKETCH), ("some.yaml", YAML_SKETCH)])
def test_mutated_text(path: str, text: str, data: st.DataObject) -> None:
    check_any(data.draw(mutated(text)), path)


@quick
@given(files)
def test_formatting_keeps_every_tree(file: File) -> None:
    check_kept(file)
