"""What holds for any text and for any tree."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dsl_trees import SKETCH, YAML_SKETCH, files, grammatical, mutated, texts
from masc.dsl.diagnostics import Diagnostic, errors
from masc.dsl.dump import dump
from masc.dsl.formatter import format_file
from masc.dsl.parser import parse
from masc.dsl.read import read_source
from masc.dsl.render import render, to_json
from masc.dsl.source import Source, Span
from masc.dsl.syntax import (
    Adapt,
    Agent,
    Call,
    File,
    Graph,
    Import,
    Literal,
    Model,
    Prompt,
    Say,
    Setting,
    Supervise,
    Table,
    Think,
    Train,
)
from masc.dsl.yaml_reader import parse_yaml
from masc.dsl.yaml_writer import format_yaml, in_yaml_order

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").rglob("*.mas"))
NOWHERE = Span(Source("nowhere.mas", ""), 0, 0)
quick = settings(deadline=None, max_examples=50, suppress_health_check=list(HealthCheck))


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
    """Every comment in a tree, however often it stands there; not the empty lines among them."""
    found: Counter[str] = Counter()
    if isinstance(node, tuple):
        for child in node:
            found += comments(child)
    elif is_dataclass(node) and not isinstance(node, Span):
        for field in fields(node):
            value = getattr(node, field.name)
            if field.name in ("leading", "inner", "header", "trailer"):
                found.update(text for text in value if text is not None)
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
            check_kept_in_yaml(file)


def check_kept(file: File) -> None:
    """Formatting keeps the tree and the comments, and is idempotent."""
    text = format_file(file)
    again, diagnostics = parse(Source("again.mas", text))
    assert not diagnostics
    assert again == file
    assert dump(again, spans=False) == dump(file, spans=False)  # tells 1 from 1.0 and true
    assert comments(again) == comments(file)
    assert format_file(again) == text


def check_kept_in_yaml(file: File) -> None:
    """So does writing it as YAML, but for the order, and for what YAML cannot say."""
    if beyond_yaml(file):
        return
    text = format_yaml(file)
    again, diagnostics = parse_yaml(Source("again.yaml", text))
    assert not diagnostics
    assert again is not None
    assert dump(again, spans=False) == dump(in_yaml_order(file), spans=False)
    assert comments(again) == Counter(_visible(comment) for comment in comments(file).elements())
    assert format_yaml(again) == text


def _visible(comment: str) -> str:
    return "".join(char if char.isprintable() or char == "\t" else "?" for char in comment).strip()


def beyond_yaml(file: File) -> bool:
    """Whether a file says something that YAML cannot: a name or a block twice, or what makes no sense anyway."""
    by_kind: dict[type, list[str]] = {}
    for item in file.declarations:
        if not isinstance(item, Import):
            by_kind.setdefault(type(item), []).append("" if isinstance(item, Graph | Train) else item.name.text)
    if any(len(set(names)) < len(names) for names in by_kind.values()):
        return True
    return any(map(_beyond, everything(file)))


def everything(node: object) -> list[object]:
    """Every node of a tree."""
    if isinstance(node, tuple):
        return [found for child in node for found in everything(child)]
    if is_dataclass(node) and not isinstance(node, Span):
        return [node, *(found for field in fields(node) for found in everything(getattr(node, field.name)))]
    return []


def _beyond(node: object) -> bool:
    match node:
        case Agent():
            kinds = [m.role.text if isinstance(m, Say) else type(m).__name__ for m in node.members]
            names = [field.name.text for field in node.fields]
            options = [
                [o.name.text for o in m.options] + ["steps"] * isinstance(m, Think)
                for m in node.members
                if not isinstance(m, Say)
            ]
            unknown = any(isinstance(m, Adapt) and m.kind.text == "from" for m in node.members)  # its file's key, too
            qualified = any(o.qualifier for m in node.members if not isinstance(m, Say) for o in m.options)
            return qualified or unknown or any(len(set(found)) < len(found) for found in (kinds, names, *options))
        case Model() | Table() | Call():
            options_of = node.entries if isinstance(node, Table) else node.options
            named = [option.name.text for option in options_of] + ["from"] * isinstance(node, Model)
            return any(option.qualifier for option in options_of) or len(set(named)) < len(named)
        case Train():
            outputs = [entry.output.text for entry in node.entries if isinstance(entry, Supervise)]
            names = [entry.name.text for entry in node.entries if isinstance(entry, Setting)]
            data = [e.value for e in node.entries if isinstance(e, Setting) and e.name.text == "data"]
            text = all(isinstance(value, Literal) and isinstance(value.value, str) for value in data)
            return not text or "supervise" in names or any(len(set(x)) < len(x) for x in (outputs, names))
        case Prompt():
            return any(isinstance(part, str) and re.search(r"(?m)^[ \t]+$|\r", part) for part in node.parts)
        case _:
            return False


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
@given(grammatical)
def test_texts_of_the_grammar(text: str) -> None:
    file, diagnostics = parse(Source("made.mas", text))
    assert file is not None
    assert not diagnostics
    check_any(text, "made.mas")


@quick
@given(files)
def test_yaml_keeps_every_tree(file: File) -> None:
    check_kept_in_yaml(file)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_formatting_keeps_every_example(path: Path) -> None:
    check_any(path.read_text(encoding="utf-8"), str(path))


@quick
@given(files)
def test_formatting_keeps_every_tree(file: File) -> None:
    check_kept(file)


def gaps(lines: list[str]) -> list[int]:
    """Before which lines of a formatted text an empty line may stand: not in a prompt, not at the ends of a block."""
    found, prompt = [], False
    for i, line in enumerate(lines):
        before, bare = lines[i - 1] if i else "", line.strip()
        opens = not prompt and line.endswith('"""')
        prompt = opens or (prompt and bare != '"""')
        free = line and before and (not prompt or opens) and bare not in ("}", '"""')
        found += [i] if free and not re.search(r"\{(  #.*)?$", before) else []
    return found


def some_of(lines: list[int]) -> st.SearchStrategy[list[int]]:
    return st.lists(st.sampled_from(lines), unique=True) if lines else st.just([])


def spread(text: str, at: list[int], count: int) -> str:
    return "\n".join(("\n" * count if i in at else "") + line for i, line in enumerate(text.split("\n")))


def one_space(text: str) -> str:
    return re.sub(" +", " ", text)  # an empty line ends a run of aligned lines


@quick
@given(files, st.data())
def test_an_empty_line_stays_and_several_are_one(file: File, data: st.DataObject) -> None:
    text = format_file(file)
    at = data.draw(some_of(gaps(text.split("\n"))))
    again, diagnostics = parse(Source("again.mas", spread(text, at, data.draw(st.integers(1, 3)))))
    assert not diagnostics
    assert again is not None
    assert again == file
    assert comments(again) == comments(file)
    assert one_space(format_file(again)) == one_space(spread(text, at, 1))
    check_kept(again)
    check_kept_in_yaml(again)


@quick
@given(st.data())
def test_empty_lines_go_into_yaml_and_come_back(data: st.DataObject) -> None:
    text = format_file(parse(Source("sketch.mas", SKETCH))[0] or File(NOWHERE, 1, ()))
    lines = text.split("\n")
    # Models and params are groups in YAML, with an empty line between them in any case.
    free = [i for i in gaps(lines) if not lines[i].startswith("param")]
    file, _ = parse(Source("spread.mas", spread(text, data.draw(some_of(free)), 1)))
    assert file is not None
    again, diagnostics = parse_yaml(Source("again.yaml", format_yaml(file)))
    assert not diagnostics
    assert again is not None
    assert format_file(again) == format_file(file)
