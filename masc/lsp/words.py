"""The words of the language, briefly explained: what hover and completion say of keywords, options and their values.

Which options there are and what they take is decided by the compiler's tables; the tests hold this page against them.
"""

from __future__ import annotations

from dataclasses import dataclass

KEYWORDS: dict[str, str] = {
    "mas": "The version of the language, on the first line: `mas 1`.",
    "import": 'Agents, templates, models and params of another file: `import "roles.mas" (critic)`.',
    "model": "A base model: a registry name, a Hugging Face id or a local folder.",
    "param": "A value with a name and a type, set from outside with `--set name=value`.",
    "agent": "A role on a base model: its prompts, how it thinks, what of it is trained. With fields it is a template.",
    "on": "The base model of an agent.",
    "system": "The system message of the agent's prompt. `{name}` is an input or what a sender says; `{{` is a brace.",
    "user": "The user's message of the agent's prompt. `{name}` is an input or what a sender says; `{{` is a brace.",
    "think": "Latent steps after the prompt: hidden states are fed back, nothing is decoded.",
    "adapt": "What of the agent is trained: `lora(...)` (the default) or `none`.",
    "answer": "The agent decodes text: the graph's output, or what it sends over a `text` edge.",
    "graph": "Who talks to whom: `graph name(inputs) -> outputs { ... }`.",
    "repeat": "Rounds: the edges inside run so many times; an agent keeps one adapter over all of them.",
    "train": "The settings of training, and which data column supervises which output.",
    "as": "What an opened channel carries: `open = 40 as trace`.",
}

TYPES: dict[str, str] = {
    "int": "A whole number.",
    "float": "A number.",
    "bool": "`true` or `false`.",
    "text": "A text in quotes.",
    "input": "An input of the graph, for a template's prompt: `{field}` is that input's value.",
}

CHANNELS: dict[str, str] = {
    "kv": "Keys and values of the sender's cache, seen by the receiver. Both run on one base model.",
    "hidden": "Final hidden states, through a trainable link into the receiver's prompt. Any two models.",
    "fuse": "The sender's cache, projected and gated into the receiver's own. Any two models.",
    "text": "The sender's words, at `{sender}` in the receiver's prompt. No gradient crosses.",
}

ADAPTERS: dict[str, str] = {
    "lora": "A LoRA adapter of its own, trained; the base stays frozen.",
    "none": "Nothing: the agent runs on the frozen base.",
}


@dataclass(frozen=True)
class Option:
    """`words`: the words that it takes; `takes`: what else, in words."""

    about: str
    words: tuple[str, ...] = ()
    takes: str = ""


_GRADIENT = Option("Whether the loss reaches the sender through this edge (default `full`).", ("full", "stop"))
_ONE = "a whole number from 1"
_ANY = "a whole number from 0"
_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

OPTIONS: dict[str, dict[str, Option]] = {
    "think": {
        "align": Option(
            "How a hidden state becomes the next input: scaled to the embeddings' norm, through the ridge map from "
            "output to input embeddings, through a trainable matrix, or as the mean of all embeddings weighted with "
            "their probabilities (default `norm`).",
            ("norm", "ridge", "linear", "soft"),
        ),
        "gradient": Option(
            "Whether a gradient passes from a latent step to the one before; through keys and values it always does "
            "(default `full`).",
            ("full", "stop"),
        ),
    },
    "lora": {
        "rank": Option("The rank of the adapter (default 16).", takes=_ONE),
        "alpha": Option("Its outputs are scaled by alpha / rank (default 32).", takes="a number above 0"),
        "targets": Option(
            "Which linear projections of the blocks it sits on (default `all`).",
            ("all", "attention", "mlp"),
            f"a list of {', '.join(_PROJECTIONS)}",
        ),
        "dropout": Option("Dropout before the adapter, in training (default 0).", takes="a number from 0, below 1"),
    },
    "answer": {
        "max_tokens": Option("The most tokens that are decoded (default 128).", takes=_ONE),
        "temperature": Option("0 is greedy decoding (the default).", takes="a number from 0"),
        "top_p": Option(
            "Samples from the likeliest tokens of this mass (default 1).", takes="a number above 0, at most 1"
        ),
        "seed": Option("Of sampling (default 0).", takes=_ANY),
        "stop": Option("Texts that end the answer, and are cut off.", takes="a text or a list of texts"),
    },
    "kv": {
        "carry": Option(
            "Which segments pass: all that the sender saw and its own, its own, or only its latent positions "
            "(default `trace`).",
            ("trace", "own", "latents"),
        ),
        "merge": Option(
            "Where parallel senders lie: at the positions where they were written, or end to end (default `overlap`).",
            ("overlap", "stack"),
        ),
        "layers": Option(
            "The layers that see it, both ends included (default `all`).", ("all",), "a range such as 0..9"
        ),
        "gradient": _GRADIENT,
        "open": Option(
            "For so many first steps of training more passes, ever more seldom: `open = 40`, `open = 40 as trace`.",
            takes=_ANY,
        ),
    },
    "hidden": {
        "carry": Option(
            "Which hidden states: of the latent positions, or of the prompt's before them too (default `latents`).",
            ("latents", "own"),
        ),
        "link": Option("The trainable link: a matrix, or two layers beside a skip.", ("linear", "mlp")),
        "gradient": _GRADIENT,
    },
    "fuse": {
        "layers": Option(
            "The receiver's layers that are fused (default: all with a counterpart).",
            ("all",),
            "a range such as 0..9",
        ),
        "width": Option("Of the projection's hidden layer (default 256).", takes="a whole number from 1 to 65536"),
        "gradient": _GRADIENT,
    },
    "text": {},
    "train": {
        "data": Option("JSON lines to train on, from the file's folder.", takes="a path in quotes"),
        "eval_data": Option("JSON lines to evaluate on.", takes="a path in quotes"),
        "batch": Option("Samples in a forward pass (default 8).", takes=_ONE),
        "accumulate": Option("Forward passes in an optimiser step (default 1).", takes=_ONE),
        "steps": Option("Optimiser steps (default 200).", takes=_ONE),
        "rate": Option("AdamW's peak learning rate (default 2e-4).", takes="a number above 0"),
        "warmup": Option("Share of the steps in which the rate rises (default 0.05).", takes="a number from 0 to 1"),
        "clip": Option(
            "The largest gradient norm of each agent and edge; 0: no limit (default 1).", takes="a number from 0"
        ),
        "weight_decay": Option("AdamW's weight decay (default 0).", takes="a number from 0"),
        "seed": Option("Of fresh weights and of the order of samples (default 0).", takes=_ANY),
        "save_every": Option("Steps between checkpoints; 0: only at the end (default 50).", takes=_ANY),
        "keep": Option("How many checkpoints are kept (default 2).", takes=_ONE),
        "eval_every": Option("Steps between evaluations; 0: only at the end (default 0).", takes=_ANY),
        "dtype": Option("Of the frozen base.", ("float32", "bfloat16")),
        "max_length": Option("The most positions of a sample; 0: the model's own limit (default 0).", takes=_ANY),
        "checkpoint": Option(
            "What is recomputed to save memory: nothing, or each agent's activations (default `none`).",
            ("none", "agent"),
        ),
    },
}

ITEMS: dict[tuple[str, str], tuple[str, ...]] = {("lora", "targets"): _PROJECTIONS}
"""What stands in the list that an option takes, where those are words."""


def about(owner: str, option: str) -> str | None:
    """What hover says of an option."""
    found = OPTIONS.get(owner, {}).get(option)
    if found is None:
        return None
    choices = [*(f"`{word}`" for word in found.words), *([found.takes] if found.takes else [])]
    return f"**{option}** = {' or '.join(filter(None, [', '.join(choices[:-1]), choices[-1]]))}\n\n{found.about}"
