"""What is meant by YAML that says something else: how each mapping looks, what keys are called elsewhere, and text that
YAML does not read as it was meant."""

from __future__ import annotations

import re
from dataclasses import dataclass

import yaml

from masc.dsl.diagnostics import Diagnostic
from masc.dsl.known import ALIGNMENT
from masc.dsl.source import Source, Span
from masc.dsl.yaml_text import excerpt, node_span

_NULLS = ("", "~", "null", "Null", "NULL")
_LATEX = "nabla|ne|neg?q?|newline|ni|nleq|ngeq|not|notin|nu|tan|tau|text[a-z]*|tfrac|theta|times|tilde|to|top|triangle"
_MEANT = re.compile(rf'\\(?!(?:{_LATEX})(?![a-z]))(?:[nt]|u[0-9a-fA-F]{{4}}|")')
"""What looks like an escape: `\\n`, and not `\\nabla`."""
_CUT = re.compile(r"[ \t]+(#[\d{][^\n\r]*)")
"""What looks like text and is a comment: ` #1`."""

FORMS = {
    "an import": "`imports: [{from: roles.mas, names: [critic]}]`",
    "models": '`models: {small: "smollm2-135m"}`',
    "a model": '`big: {from: "Qwen/Qwen3-8B", load: nf4}`',
    "params": "`params: {latents: 10}`",
    "a param": "`latents: {type: int, default: 10}`",
    "agents": '`agents: {solver: {on: small, user: "{question}"}}`',
    "an agent": '`solver: {on: small, user: "{question}"}`',
    "fields": "`fields: {field: text}`",
    "`think`": f"`think: {{steps: 10, align: {ALIGNMENT}}}`",
    "a graph": "`graph: {name: team, inputs: [question], outputs: [answer], body: [planner -> solver]}`",
    "`repeat`": "`{repeat: 2, body: [a -> b, b -> a]}`",
    "options": "names and values: `{max_tokens: 128}`, `{lora: {rank: 8}}`",
    "variables": "names and values: `{enable_thinking: false}`",
    "`train`": "`train: {data: train.jsonl, steps: 200}`",
    "outputs": "`supervise: {answer: solution}`",
}
"""How each mapping looks: the hint where something else stands in its place."""
CALLED = {"version": "mas", "masc": "mas", "model": "on", "llm": "on", "prompt": "user", "instructions": "system"}
CALLED |= {"latents": "think", "steps": "think", "lora": "adapt", "adapter": "adapt", "peft": "adapt", "edges": "body"}
CALLED |= {"output": "outputs", "input": "inputs", "nodes": "agents", "roles": "agents", "training": "train"}
"""What keys are called elsewhere."""


def escapes_meant(source: Source, node: yaml.ScalarNode) -> list[Diagnostic]:
    """W0210 for what would be an escape in double quotes, and is a backslash and a letter here."""
    if node.style == '"' or (found := _MEANT.search(node.value)) is None:
        return []
    message = f"`{found[0]}` is a backslash and what follows it: only double quotes have escapes"
    hint = "write the text in double quotes" + (", or a new line" if node.style in ("|", ">") else "")
    return [Diagnostic("W0210", message, excerpt(source, node).span(*found.span()), hint=hint)]


def cut_off(source: Source, node: yaml.ScalarNode) -> list[Diagnostic]:
    """W0211 for a prompt that ends at a `#` that is no comment, by its look."""
    found = _CUT.match(source.text, node_span(source, node).end) if node.style is None else None
    if found is None:
        return []
    message = f"the prompt ends before `{found[1][:20].rstrip()}`, which is a comment"
    return [Diagnostic("W0211", message, Span(source, *found.span(1)), hint="put the prompt in quotes")]


@dataclass(frozen=True)
class Adapter:
    """`lora`, `{lora: {rank: 8}, from: folder}` or `{as: planner}`, in parts."""

    kind: yaml.Node
    options: yaml.Node | None = None
    start: yaml.Node | None = None


def adapter_of(node: yaml.Node) -> Adapter | None:
    """The parts of an adapter; None where it is none of the three."""
    if isinstance(node, yaml.ScalarNode):
        return Adapter(node)
    if not isinstance(node, yaml.MappingNode):
        return None
    starts = [value for key, value in node.value if key.value == "from"]
    kinds = [(key, value) for key, value in node.value if key.value != "from"]
    if len(kinds) != 1 or len(starts) > 1:
        return None
    return Adapter(*kinds[0], starts[0] if starts else None)


def is_null(node: yaml.Node) -> bool:
    """Whether a node says nothing."""
    return isinstance(node, yaml.ScalarNode) and node.style is None and node.value in _NULLS


def in_quotes(node: yaml.Node, text: str) -> str | None:
    """The hint for what is no text where text is wanted: YAML takes `{`, `[` and `- ` for its own, and `null`."""
    if not isinstance(node, yaml.CollectionNode):
        return f'text stands in quotes: "{text}"' if text else None
    short = "\n" not in text and '"' not in text and len(text) <= 40
    return "text that begins with `{`, `[` or `-` stands in quotes" + (f': "{text}"' if short else "")
