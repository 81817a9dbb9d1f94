"""Small graphs compile to the plans that stand beside them (`helpers/goldens.py`), and show all of the language."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, ForwardRef, Literal, Union, get_args, get_origin, get_type_hints

import pytest
import yaml

from goldens import (
    COMMAND,
    FOLDER,
    MODELS,
    Case,
    case_text,
    cases,
    compiled,
    formatted,
    models_folder,
    plan_of,
    read_case,
)
from masc.compiler.analysis.verify import verify_plan
from masc.compiler.channels import ARRIVALS, CHANNELS
from masc.compiler.forms.plan_json import dump_plan, load_plan
from masc.compiler.forms.plan_parse import parse_plan
from masc.compiler.forms.plan_text import print_plan
from masc.compiler.ir import plan as plan_module
from masc.compiler.ir.arrival import Arrival
from masc.compiler.ir.plan import Plan
from masc.compiler.language.adapters import ADAPTERS, LORA
from masc.compiler.language.agents import ANSWER, THINK
from masc.compiler.language.declare import Option
from masc.compiler.language.models import MODEL
from masc.compiler.language.objectives import OBJECTIVES
from masc.compiler.language.train import TRAIN
from masc.compiler.resolve.params import FIELD_TYPES, TYPES
from masc.dsl import syntax
from masc.dsl.read import read_source
from masc.dsl.rewrite import written
from masc.dsl.source import Source
from masc.dsl.yaml_reader import AGENT, GRAPH, IMPORT, PARAM, REPEAT, TOP

FILES = cases()


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with models_folder() as folder:
        yield folder


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_plan(path: Path, home: Path) -> None:
    case, text = read_case(path), path.read_text(encoding="utf-8")
    compilation = compiled(case, home)
    plan = plan_of(compilation, home)
    now = case_text(formatted(case), print_plan(plan))
    names = f"{path.name}, as written", f"{path.name}, as compiled"
    diff = "".join(difflib.unified_diff(text.splitlines(True), now.splitlines(True), *names))
    if diff:
        pytest.fail(f"{diff}\nIf that is meant: {COMMAND}", pytrace=False)
    assert re.fullmatch(r"[A-Z`].*\.", case.sentence)
    assert sorted(case.imported) == sorted(compilation.imported)
    verify_plan(plan)
    assert parse_plan(print_plan(plan)) == plan
    assert load_plan(dump_plan(plan)) == plan


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_plan_in_the_other_form(path: Path, home: Path) -> None:
    case = read_case(path)
    form: Literal["mas", "yaml"] = "yaml" if case.form == "mas" else "mas"
    file, _ = read_source(case.source)
    assert file is not None
    other = Case(case.name, case.sentence, case.imported, form, written(file, form), case.options, "")
    plan, again = (plan_of(compiled(one, home), home) for one in (case, other))
    assert print_plan(again) == print_plan(plan)


def test_nothing_else_lies_there() -> None:
    assert sorted(FOLDER.iterdir()) == FILES
    named = "".join(case.expected for case in map(read_case, FILES))
    assert [model.name for model in MODELS.iterdir() if f'"./{model.name}"' not in named] == []
    alike: dict[tuple[str, str], list[str]] = {}
    for case in map(read_case, FILES):
        alike.setdefault((case.text, case.options), []).append(case.name)
    assert [names for names in alike.values() if len(names) > 1] == []


# What the language declares


def values_of(schema: Mapping[str, Any]) -> Iterator[str]:
    """What a reader's schema says that can be written: words, and kinds of values."""
    for one in schema.get("anyOf", ()):
        yield from values_of(one)
    yield from schema.get("enum", ())
    if "const" in schema:
        yield str(schema["const"])
    kind = schema.get("type")
    if kind == "array":
        yield from ("a list", *values_of(schema["items"]))
    if kind == "object":
        yield "a table"
    if kind == "boolean":
        yield from ("true", "false")
    if kind in ("integer", "number"):
        yield "a number"
    if kind == "string":
        yield from ("all", "a range") if "pattern" in schema else ("a text",)


def values_in(value: syntax.Value) -> Iterator[str]:
    """The same of a value in a file."""
    if isinstance(value, syntax.Name):
        yield value.text
    elif isinstance(value, syntax.List):
        yield "a list"
        for item in value.items:
            yield from values_in(item)
    elif isinstance(value, syntax.Table):
        yield "a table"
        for entry in value.entries:
            yield from values_in(entry.value)
    elif isinstance(value, syntax.Call):
        yield value.name.text
    elif isinstance(value, syntax.Range):
        yield "a range"
    elif isinstance(value.value, str):
        yield "a text"
    elif isinstance(value.value, bool):
        yield str(value.value).lower()
    else:
        yield from ("a number", str(value.value))


def nodes(value: object) -> Iterator[syntax.Node]:
    if isinstance(value, tuple):
        for item in value:
            yield from nodes(item)
    elif isinstance(value, syntax.Node):
        yield value
        for field in fields(value):
            if field.name != "span":
                yield from nodes(getattr(value, field.name))


def options_in(node: syntax.Node) -> Iterator[tuple[str, str, str]]:
    """Owner, option and value of all that a node says."""
    if isinstance(node, syntax.Channel | syntax.Adapt):
        yield node.kind.text, "", ""
    if isinstance(node, syntax.Setting):
        yield from (("train", node.name.text, value) for value in values_in(node.value))
    for option in getattr(node, "options", ()):
        kind = node.name if isinstance(node, syntax.Call) else getattr(node, "kind", None)
        owner = type(node).__name__.lower() if kind is None else kind.text
        yield from ((owner, option.name.text, value) for value in values_in(option.value))
        if option.qualifier is not None:
            yield owner, option.name.text, f"as {option.qualifier.text}"


def everything_written() -> Iterator[syntax.Node]:
    for case in map(read_case, FILES):
        for source in (case.source, *(Source(name, text) for name, text in case.imported)):
            file, _ = read_source(source)
            yield from nodes(file)


def test_every_option_of_the_language() -> None:
    tables: dict[str, Mapping[str, Option]] = {"think": THINK, "lora": LORA, "answer": ANSWER, "train": TRAIN}
    tables |= {name: aim.options for name, aim in OBJECTIVES.items()}
    tables["model"] = MODEL
    tables |= {kind: channel.options for kind, channel in CHANNELS.items()}
    declared = {
        (owner, name, value)
        for owner, options in tables.items()
        for name, option in options.items()
        for value in values_of(option.reads.schema)
    }
    declared |= {(kind, "", "") for kind in (*CHANNELS, *ADAPTERS)}
    declared |= {("kv", "open", f"as {carry}") for carry in ("own", "trace")}  # `as latents` would add nothing
    assert sorted(declared - {said for node in everything_written() for said in options_in(node)}) == []


def test_every_kind_of_thing_in_a_file() -> None:
    found = list(everything_written())
    kinds = {*get_args(syntax.Declaration), *get_args(syntax.Member), *get_args(syntax.Statement), syntax.Supervise}
    assert kinds - {type(node) for node in found} == set()
    assert set(TYPES) == {node.type.text for node in found if isinstance(node, syntax.Param)}
    assert set(FIELD_TYPES) == {node.type.text for node in found if isinstance(node, syntax.Field)}


def test_every_key_of_yaml() -> None:
    def keys(value: object) -> Iterator[str]:
        for key, inner in value.items() if isinstance(value, dict) else ():
            yield from (str(key), *keys(inner))
        for item in value if isinstance(value, list) else ():
            yield from keys(item)

    texts = [case.text for case in map(read_case, FILES) if case.form == "yaml"]
    found = {key for text in texts for key in keys(yaml.load(text, yaml.BaseLoader))}
    assert {*TOP, *IMPORT, *PARAM, *AGENT, *GRAPH, *REPEAT} - found == set()


# What a plan can hold

Held = tuple[str, str, str]


def holds(kind: Any) -> Iterator[str]:
    """What a field of a type may hold, in words; of a tuple: what it may have in it."""
    if isinstance(kind, str | ForwardRef):  # inside an alias
        kind = eval(kind if isinstance(kind, str) else kind.__forward_arg__, vars(plan_module))
    if get_origin(kind) in (Union, UnionType):
        for one in get_args(kind):
            yield from holds(one)
    elif get_origin(kind) is Literal:
        yield from map(repr, get_args(kind))
    elif get_origin(kind) is tuple:
        for one in get_args(kind):
            yield from () if one is Ellipsis else holds(one)
    elif kind is Arrival:
        yield from (one.__name__ for one in ARRIVALS.values())
    elif kind is NoneType or is_dataclass(kind):
        yield kind.__name__
    else:
        yield from ("True", "False") if kind is bool else (f"some {kind.__name__}",)


def held(value: object) -> Iterator[str]:
    """The same of a value."""
    if isinstance(value, tuple):
        for item in value:
            yield from held(item)
        return
    yield type(value).__name__
    yield from (repr(value), f"some {type(value).__name__}")


def parts(kind: Any, seen: set[Any]) -> None:
    """The dataclasses that a type is made of."""
    if isinstance(kind, str | ForwardRef):
        kind = eval(kind if isinstance(kind, str) else kind.__forward_arg__, vars(plan_module))
    if kind is Arrival:
        for one in ARRIVALS.values():
            parts(one, seen)
    elif is_dataclass(kind) and kind not in seen:
        seen.add(kind)
        for inner in get_type_hints(kind).values():
            parts(inner, seen)
    for inner in get_args(kind) if get_origin(kind) is not Literal else ():
        parts(inner, seen)


def observed(value: object) -> Iterator[Held]:
    if isinstance(value, tuple):
        for item in value:
            yield from observed(item)
    elif is_dataclass(value):
        for field in fields(value):
            inner = getattr(value, field.name)
            yield from ((type(value).__name__, field.name, word) for word in held(inner))
            if inner == field.default:
                yield type(value).__name__, field.name, "its default"
            yield from observed(inner)


def test_every_thing_that_a_plan_can_hold() -> None:
    kinds: set[Any] = set()
    parts(Plan, kinds)
    declared: set[Held] = set()
    for kind in kinds:
        hints = get_type_hints(kind)
        for field in fields(kind):
            declared |= {(kind.__name__, field.name, word) for word in holds(hints[field.name])}
            if field.default is not MISSING:
                declared.add((kind.__name__, field.name, "its default"))
    plans = [parse_plan(case.expected) for case in map(read_case, FILES)]
    assert sorted(declared - {word for plan in plans for word in observed(plan)}) == []
