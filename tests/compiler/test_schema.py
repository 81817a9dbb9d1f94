"""The JSON Schema takes what masc takes, and refuses what is misspelt."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from dsl_trees import YAML_SKETCH, mutated
from masc.compiler.language.adapters import LORA
from masc.compiler.language.agents import ANSWER, THINK
from masc.compiler.language.train import TRAIN
from masc.compiler.pipeline import compile_file, compile_source
from masc.compiler.resolve.schema import schema
from masc.dsl.diagnostics import errors
from masc.dsl.read import read
from masc.dsl.source import Source
from masc.dsl.yaml_writer import format_yaml

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").rglob("*.mas"))
VALIDATOR = Draft202012Validator(schema())


class Core(yaml.SafeLoader):
    """YAML 1.2's core schema, as editors read it (PyYAML's own is 1.1: there the key `on` is true)."""


Core.yaml_implicit_resolvers = {}
for kind, pattern in {
    "null": r"|~|null|Null|NULL",
    "bool": r"true|True|TRUE|false|False|FALSE",
    "int": r"[-+]?[0-9]+",
    "float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?",
}.items():
    Core.add_implicit_resolver(f"tag:yaml.org,2002:{kind}", re.compile(f"^(?:{pattern})$"), None)


def load(text: str) -> Any:
    return yaml.load(text, Core)


TEAM = """\
mas: 1
models: {m: no-one/none}
params: {latents: 4, wide: {type: float, default: 16}}
agents:
  planner:
    on: m
    system: You plan.
    user: "{question}"
    think: {steps: latents, align: ridge}
    adapt: {lora: {rank: 8, alpha: wide, targets: [q_proj, v_proj], dropout: 0.1}}
  expert:
    on: m
    fields: {field: text, level: int}
    user: "{question} {field} {level}"
    think: 2
  solver:
    on: m
    user: "{question}"
    adapt: none
    answer: {max_tokens: 8, stop: ["a", "b"], temperature: 0}
graph:
  name: g
  inputs: [question]
  outputs: answer
  body:
    - maths = expert("maths", 2)
    - planner -> maths : kv(carry = own)
    - "[planner, maths] -> solver : kv(carry = own)"
train:
  supervise: {answer: solution}
  data: train.jsonl
  rate: 2e-4
  steps: 10
  checkpoint: agent
"""


def test_it_is_a_schema() -> None:
    Draft202012Validator.check_schema(schema())
    assert json.loads(json.dumps(schema())) == schema()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_example(path: Path) -> None:
    """In YAML it is valid, and compiles to the same plan."""
    file, _, _ = read(path)
    assert file is not None
    text = format_yaml(file)
    VALIDATOR.validate(load(text))
    in_yaml = compile_source(Source(str(path.with_suffix(".yaml")), text), base=path.parent)
    assert in_yaml.plan == compile_file(path).plan


def test_a_file_with_everything() -> None:
    VALIDATOR.validate(load(TEAM))
    VALIDATOR.validate(load(YAML_SKETCH))
    assert not errors(compile_source(Source("team.yaml", TEAM)).diagnostics)


WORDS = ["mas", "models", "params", "agents", "on", "system", "think", "steps", "align", "adapt", "lora", "rank"]
WORDS += ["targets", "fields", "answer", "max_tokens", "graph", "name", "inputs", "outputs", "body", "train"]
WORDS += ["supervise", "rate", "checkpoint", "type", "default"]


@pytest.mark.parametrize("word", WORDS)
def test_misspelt_keys(word: str) -> None:
    text, count = re.subn(rf"\b{word}:", f"{word}x:", TEAM, count=1)
    assert count
    assert errors(compile_source(Source("team.yaml", text)).diagnostics)
    assert not VALIDATOR.is_valid(load(text))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("mas: 1", "mas: 2"),
        ("rank: 8", "rank: 0"),
        ("rank: 8", "rank: 1.5"),
        ("dropout: 0.1", "dropout: 1"),
        ("[q_proj, v_proj]", "[]"),
        ("{max_tokens: 8", "{max_tokens: [8]"),
        ("think: 2", "think: [2]"),
        ("inputs: [question]", "inputs: {question: text}"),
        ("rate: 2e-4", "rate: 0"),
        ("field: text", "field: string"),
        ("  solver:", "  sol-ver:"),
        ("- maths = expert", "- repeat: 2\n    - maths = expert"),
        ("    on: m\n    system", "    system"),
    ],
)
def test_wrong_values(old: str, new: str) -> None:
    text = TEAM.replace(old, new)
    assert text != TEAM
    assert errors(compile_source(Source("team.yaml", text)).diagnostics)
    assert not VALIDATOR.is_valid(load(text))


def test_it_comes_from_the_tables_that_files_are_read_by() -> None:
    definitions = schema()["$defs"]
    agent = definitions["agent"]["properties"]
    assert set(agent["think"]["anyOf"][1]["properties"]) == {*THINK, "steps"}
    assert set(agent["adapt"]["anyOf"][1]["properties"]["lora"]["properties"]) == set(LORA)
    assert set(agent["answer"]["properties"]) == set(ANSWER)
    assert set(definitions["train"]["properties"]) == {*TRAIN, "supervise"}


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_what_compiles_is_valid(data: st.DataObject) -> None:
    text = data.draw(mutated(TEAM))
    if not errors(compile_source(Source("team.yaml", text)).diagnostics):
        VALIDATOR.validate(load(text))
