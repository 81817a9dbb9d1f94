"""The YAML form as a JSON Schema (draft 2020-12): for editors that complete and check as one types.

Keys, options and their values come from the tables by which files are read. What a schema cannot say (that names are
declared, that a graph has no cycle, what stands in a statement) `masc check` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from masc.compiler.language.adapters import ADAPTERS, LORA
from masc.compiler.language.agents import ANSWER, ROUNDS, STEPS, THINK
from masc.compiler.language.declare import Option
from masc.compiler.language.models import MODEL, variables
from masc.compiler.language.objectives import OBJECTIVES
from masc.compiler.language.train import TRAIN
from masc.compiler.language.values import Reader
from masc.compiler.resolve.params import FIELD_TYPES, TYPES
from masc.dsl.parser import VERSION
from masc.dsl.yaml_reader import AGENT, GRAPH, GRAPH_NEEDS, IMPORT, PARAM, REPEAT, TOP

Schema = dict[str, Any]
_NAME: Schema = {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$"}
_NAMES: Schema = {"anyOf": [{"$ref": "#/$defs/name"}, {"type": "array", "items": {"$ref": "#/$defs/name"}}]}
_TEXT: Schema = {"type": ["string", "number", "boolean"]}  # where only text can stand, YAML's numbers are text too
_PROMPT = _TEXT | {"description": "A prompt: `{name}` stands for an input or for what a sender says, `{{` for a brace."}


def schema() -> Schema:
    """The schema of a whole file."""
    entries: dict[str, Schema] = {
        "mas": {"const": VERSION, "description": "The version of the language."},
        "imports": _list({"$ref": "#/$defs/import"}, "Agents, templates, models and params of other files."),
        "models": _named({"$ref": "#/$defs/model"}, "Base models: a registry name, a Hugging Face id or a folder."),
        "params": _named({"$ref": "#/$defs/param"}, "What `--set` can change."),
        "agents": _named({"$ref": "#/$defs/agent"}, "Agents, and templates of agents (those with `fields`)."),
        "graph": {"$ref": "#/$defs/graph"},
        "train": {"$ref": "#/$defs/train"},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "masc: a team of language-model agents",
        **_object(TOP, entries, needed=("mas",)),
        "$defs": {
            "name": _NAME,
            "import": _object(IMPORT, {"from": _TEXT, "names": _NAMES}, needed=IMPORT),
            "model": {"anyOf": [_TEXT, _object(("from", *MODEL), {"from": _TEXT} | _options(MODEL), needed=("from",))]},
            "param": {"anyOf": [_literal(), _object(PARAM, _param(), needed=PARAM)]},
            "agent": _object(AGENT, _agent(), needed=("on",)),
            "graph": _object(GRAPH, _graph(), needed=GRAPH_NEEDS),
            "body": {
                "anyOf": [{"type": ["string", "null"]}, {"type": "array", "items": {"$ref": "#/$defs/statement"}}]
            },
            "statement": _statement(),
            "train": _train(),
        },
    }


def _param() -> dict[str, Schema]:
    return {"type": {"enum": list(TYPES)}, "default": _literal()}


def _literal() -> Schema:
    return {"type": ["number", "string", "boolean"]}


def _agent() -> dict[str, Schema]:
    steps = _value(STEPS)
    options = _object((*THINK, "steps"), _options(THINK) | {"steps": steps}, needed=("steps",))
    start = _TEXT | {"description": "The trained PEFT adapter to begin with: a folder or a Hugging Face id."}
    kinds = {"lora": _object(LORA, _options(LORA)) | _nullable(), "from": start}
    lora = _object(("lora", "from"), kinds, needed=("lora",))
    alone = [name for name, adapter in ADAPTERS.items() if not adapter.of]
    shared = [_object((name,), {name: {"$ref": "#/$defs/name"}}, needed=(name,)) for name in ADAPTERS.keys() - alone]
    return {
        "on": {"$ref": "#/$defs/name", "description": "The model that the agent runs on."},
        "fields": _named({"enum": list(FIELD_TYPES)}, "What an instance of the template gives."),
        "system": _PROMPT,
        "user": _PROMPT,
        "think": {"anyOf": [steps, options], "description": "Latent steps: nothing is decoded."},
        "adapt": {
            "anyOf": [{"enum": alone}, lora, *shared],
            "description": "The adapter; `none` freezes the agent, `as` shares another agent's.",
        },
        "answer": _object(ANSWER, _options(ANSWER)) | _nullable() | {"description": "The agent answers in words."},
        "template": dict(variables.schema) | {"description": "Variables of the chat template, for this agent."},
    }


def _graph() -> dict[str, Schema]:
    return {
        "name": {"$ref": "#/$defs/name"},
        "inputs": _NAMES,
        "outputs": _NAMES,
        "body": {"$ref": "#/$defs/body", "description": "Statements as in `.mas`: `a -> b : kv(carry = own)`."},
    }


def _statement() -> Schema:
    count = _value(ROUNDS)
    repeat = _object(REPEAT, {"repeat": count, "body": {"$ref": "#/$defs/body"}}, needed=REPEAT)
    # `- a -> b : kv` without quotes is a mapping to YAML.
    edge = {"type": "object", "patternProperties": {"->": {"type": "string"}}, "additionalProperties": False}
    return {"anyOf": [{"type": ["string", "null"]}, repeat, edge]}


def _train() -> Schema:
    entries = _options(TRAIN) | {"data": _TEXT | {"description": TRAIN["data"].about}, "objective": _objective()}
    columns = _named(_TEXT, "Which column of the data supervises which output, or is which input.")
    return _object((*TRAIN, "supervise"), entries | {"supervise": columns}) | _nullable()


def _objective() -> Schema:
    """A word, where it needs no options, or a mapping from it to those."""
    alone = {"enum": [name for name, aim in OBJECTIVES.items() if not aim.needs]}
    called = [
        _object((name,), {name: _object(aim.options, _options(aim.options), aim.needs)}, needed=(name,))
        for name, aim in OBJECTIVES.items()
        if aim.options
    ]
    return {"anyOf": [alone, *called], "description": TRAIN["objective"].about}


def _options(options: Mapping[str, Option]) -> dict[str, Schema]:
    return {name: _value(option.reads) | {"description": option.about} for name, option in options.items()}


def _value(reader: Reader) -> Schema:
    """What an option takes, or the name of a parameter that stands for it."""
    if reader.schema.get("type") == "string" and "pattern" not in reader.schema:
        return dict(reader.schema)
    return {"anyOf": [dict(reader.schema), {"$ref": "#/$defs/name"}]}


def _object(
    keys: Sequence[str] | Mapping[str, Any], entries: Mapping[str, Schema], needed: Sequence[str] = ()
) -> Schema:
    """A mapping with these keys and no others: a key without an entry is an error here, not in a file."""
    properties = {key: entries[key] for key in keys}
    found: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return found | ({"required": list(needed)} if needed else {})


def _named(item: Schema, description: str) -> Schema:
    names = {"$ref": "#/$defs/name"}
    return _nullable() | {"additionalProperties": item, "propertyNames": names, "description": description}


def _list(item: Schema, description: str) -> Schema:
    return {"type": ["array", "null"], "items": item, "description": description}


def _nullable() -> Schema:
    return {"type": ["object", "null"]}
