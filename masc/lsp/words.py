"""What hover and completion say of the words of the language. Keywords are explained here; options, their values,
channels and adapters say it themselves, where they are declared."""

from __future__ import annotations

from collections.abc import Mapping

from masc.compiler.channels import CHANNELS
from masc.compiler.language.adapters import ADAPTERS
from masc.compiler.language.agents import ANSWER, THINK
from masc.compiler.language.alignments import ALIGNMENTS
from masc.compiler.language.declare import Option
from masc.compiler.language.models import LOADS, MODEL
from masc.compiler.language.objectives import GRPO, OBJECTIVES
from masc.compiler.language.scorers import DECLARED
from masc.compiler.language.train import TRAIN

KEYWORDS: dict[str, str] = {
    "mas": "The version of the language, on the first line: `mas 1`.",
    "import": 'Agents, templates, models and params of another file: `import "roles.mas" (critic)`.',
    "model": "A base model: a registry name, a Hugging Face id or a local folder.",
    "param": "A value with a name and a type, set from outside with `--set name=value`.",
    "agent": "A role on a base model: its prompts, how it thinks, what of it is trained. With fields it is a template.",
    "template": "Variables of the model's chat template, for this agent: `template (enable_thinking = true)`.",
    "on": "The base model of an agent.",
    "system": "The system message of the agent's prompt. `{name}` is an input or what a sender says; `{{` is a brace.",
    "user": "The user's message of the agent's prompt. `{name}` is an input or what a sender says; `{{` is a brace.",
    "think": "Latent steps after the prompt: hidden states are fed back, nothing is decoded.",
    "adapt": "What of the agent is trained: `lora(...)` (the default), `none`, or `as` another agent.",
    "answer": "The agent decodes text: the graph's output, or what it sends over a `text` edge.",
    "from": 'The trained adapter to begin with, a folder or a Hugging Face id: `adapt lora(...) from "./trained"`.',
    "graph": "Who talks to whom: `graph name(inputs) -> outputs { ... }`.",
    "repeat": "Rounds: the edges inside run so many times; an agent keeps one adapter over all of them.",
    "train": "The settings of training, and which data column supervises which output or is which input.",
    "as": "What an opened channel carries: `open = 40 as trace`. Whose adapter an agent has: `adapt as planner`.",
}

TYPES: dict[str, str] = {
    "int": "A whole number.",
    "float": "A number.",
    "bool": "`true` or `false`.",
    "text": "A text in quotes.",
    "input": "An input of the graph, for a template's prompt: `{field}` is that input's value.",
}

OPTIONS: Mapping[str, Mapping[str, Option]] = {
    "model": MODEL,
    "think": THINK,
    **{name: adapter.options for name, adapter in ADAPTERS.items()},
    "answer": ANSWER,
    **{kind: channel.options for kind, channel in CHANNELS.items()},
    "train": TRAIN,
    **{name: aim.options for name, aim in OBJECTIVES.items() if aim.options},
}
"""The options of each thing, by what they stand behind; the entries of `train`."""


def about(owner: str, option: str) -> str | None:
    """What hover says of an option."""
    found = OPTIONS.get(owner, {}).get(option)
    return None if found is None else f"**{option}** = {found.choices}\n\n{found.about}"


def about_word(owner: str, option: str, word: str) -> str:
    """What is said of a word that an option takes."""
    found = OPTIONS[owner][option]
    if found is MODEL["load"]:
        return f"Its weights are held {LOADS[word].help}."
    if found is TRAIN["objective"]:
        return OBJECTIVES[word].help
    if found is GRPO["reward"]:
        return f"A point for {next(one.help for one in DECLARED if one.name == word)}."
    return ALIGNMENTS[word].about if found is THINK["align"] else found.about
