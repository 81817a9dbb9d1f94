"""The options of a model: `model big = "Qwen/Qwen3-8B" (load = nf4, template = (enable_thinking = false))`.

How a model is loaded is held by `Loading` (`compiler/ir/model.py`), whose fields are these but for `template`: what
the chat template is told belongs to each agent in the end (`PlanAgent.variables`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from masc.compiler.language.declare import Load, Option, table
from masc.compiler.language.values import BadValueError, Reader, Scope, duplicate, mismatch, show, text, word
from masc.dsl.source import Span
from masc.dsl.syntax import Option as Written
from masc.dsl.syntax import Table, Value

LOADS: Mapping[str, Load] = table(
    Load("nf4", "in 4 bits (NormalFloat, arXiv 2305.14314), by bitsandbytes", 0.5 + 4 / 64, library="bitsandbytes"),
    Load("int8", "in 8 bits (LLM.int8(), arXiv 2208.07339), by bitsandbytes", 1.0, library="bitsandbytes"),
    Load("float8", "in 8 bits (e4m3, a scale for each row), by torchao", 1.0, library="torchao"),
    Load("bfloat16", "as bfloat16, whatever the caller says", 2.0, dtype="bfloat16"),
    Load("float32", "as float32, whatever the caller says", 4.0, dtype="float32"),
)
EXTRA = {load.library for load in LOADS.values() if load.library}
"""The packages of the extra `quant`."""
QUANTISED = tuple(name for name, load in LOADS.items() if load.library)
"""The ways of holding weights in fewer bits than they are computed in."""

METHODS: Mapping[str, tuple[str, ...]] = {
    "bitsandbytes": ("bitsandbytes",),
    "gptq": ("gptqmodel", "optimum"),
    "awq": ("gptqmodel",),
    "torchao": ("torchao",),
}
"""Quantised checkpoints that adapters can be trained on: what `config.json` says (`quant_method`), and the packages
that transformers then needs."""

REVISION = re.compile(r"(?!.*\.\.)[A-Za-z0-9][\w./-]*", re.ASCII)
DEVICE = re.compile(r"cpu|mps|(cuda|xpu)(:\d{1,3})?", re.ASCII)
GIVEN = ("messages", "tools", "documents", "add_generation_prompt", "strftime_now")
"""What masc itself tells every chat template, beside the tokenizer's tokens (`bos_token`)."""
Plain = int | float | str | bool


@dataclass(frozen=True)
class Variable:
    """A variable of a chat template. span: its name, where it was written."""

    name: str
    value: Plain
    span: Span = field(compare=False, repr=False)


def _like(pattern: re.Pattern[str], what: str, example: str) -> Reader:
    """A text that looks so."""

    def read(scope: Scope, name: str, value: Value) -> str:
        got: str = text(scope, name, value)
        if pattern.fullmatch(got) is None:
            scope.complain("E0404", f"`{name}` is {show(got)}: it must be {what}", value.span, f"such as {example}")
            raise BadValueError
        return got

    return Reader(read, {"type": "string"}, takes=f"{what}, in quotes", type="text")


def read_variables(scope: Scope, entries: Sequence[Written]) -> tuple[Variable, ...]:
    """The variables of a chat template that could be read."""
    found: dict[str, Variable] = {}
    for entry in entries:
        name = entry.name.text
        if name in GIVEN or name.endswith("_token"):
            hint = "it follows from the agent's prompts and the model's tokenizer"
            scope.complain("E0401", f"`template` has no variable `{name}`: masc sets it", entry.name.span, hint)
        elif name in found:
            duplicate(scope, f"the variable `{name}`", entry.name.span, found[name].span)
        else:
            with suppress(BadValueError):
                found[name] = Variable(name, _plain(scope, name, entry.value), entry.name.span)
    return tuple(found.values())


def _plain(scope: Scope, name: str, value: Value) -> Plain:
    got, labels = scope.constant(value)
    if not isinstance(got, int | float | str):
        raise mismatch(scope, name, "a number, a text in quotes, true or false", got, value, labels)
    return got


def _table(scope: Scope, name: str, value: Value) -> tuple[Variable, ...]:
    if isinstance(value, Table):
        return read_variables(scope, value.entries)
    got, labels = scope.constant(value)
    hint = "write `template = (enable_thinking = false)`"
    raise mismatch(scope, name, "names and values in parentheses", got, value, labels, hint)


_VALUE = {"type": ["number", "string", "boolean"]}
variables = Reader(
    _table,
    {"type": "object", "additionalProperties": _VALUE, "minProperties": 1},
    takes="names and values in parentheses",
)
"""Variables of a chat template."""

MODEL: Mapping[str, Option] = table(
    Option(
        "revision",
        _like(REVISION, "a branch, a tag or a commit", '`"main"`'),
        "Which branch, tag or commit of a model on the Hugging Face hub",
        unset="`main`",
    ),
    Option(
        "load",
        word(*LOADS),
        "How its weights are held: quantised as they are loaded, or in a dtype",
        unset="the caller's dtype",
    ),
    Option(
        "template",
        variables,
        "Variables of its chat template, for all agents on it; what an agent says itself counts more",
    ),
    Option(
        "device",
        _like(DEVICE, "a device", '`"cuda:1"`'),
        "Where it is computed, whatever the caller says",
        unset="the caller's",
    ),
)
