"""Tiny random models with a byte tokenizer, made on the spot: what most tests run on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

WALLS = "auto" if shutil.which("bwrap") else "none"
"""Behind which walls tests run code of their own."""
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ["<|pad|>", "<|im_start|>", "<|im_end|>"]


def byte_tokenizer(template: str | None = TEMPLATE, backwards: bool = False) -> Any:
    """backwards: the same bytes under other ids."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet(), reverse=backwards)
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<|pad|>", eos_token="<|im_end|>")
    fast.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    fast.chat_template = template
    return fast


def make_model(
    folder: Path,
    kind: str = "llama",
    template: str | None = TEMPLATE,
    seed: int = 0,
    backwards: bool = False,
    **changes: Any,
) -> Path:
    """Write a tiny random model of a type: 3 layers, 32 wide, 4 heads over 2 key/value heads, untied unless changed."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    tokenizer = byte_tokenizer(template, backwards)
    settings: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "max_position_embeddings": 2048,
        "tie_word_embeddings": False,
        "initializer_range": 0.2,
        "pad_token_id": 0,
        "bos_token_id": None,
        "eos_token_id": 2,
    }
    if kind in {"mistral", "qwen2", "qwen3"}:
        settings["sliding_window"] = None
    if kind == "olmo2":
        del settings["head_dim"]
    config = AutoConfig.for_model(kind, **{**settings, **changes})
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def make_other(folder: Path, **changes: Any) -> Path:
    """A second tiny model: another type, width, depth, number of heads and order of tokens."""
    settings = {"hidden_size": 24, "num_hidden_layers": 4, "num_attention_heads": 3, "num_key_value_heads": 1}
    settings |= changes
    return make_model(folder, "qwen3", seed=5, backwards=True, **settings)


def compile_plan(text: str, folder: Path, **options: Any) -> Any:
    """The plan of a `.mas` text in which MODEL stands for a model folder, OTHER for the folder `other` beside it; fails
    the test on any error."""
    from masc.compiler.pipeline import compile_source
    from masc.dsl.render import render
    from masc.dsl.source import Source

    source = Source(
        str(folder.parent / "test.mas"),
        text.replace("MODEL", f'"{folder}"').replace("OTHER", f'"{folder.parent / "other"}"'),
    )
    compilation = compile_source(source, **options)
    assert compilation.plan is not None, render(compilation.diagnostics)
    return compilation.plan


def make_program(
    text: str, folder: Path, *, dtype: str = "float32", device: str = "cpu", awake: bool = True, **options: Any
) -> Any:
    """A program from a `.mas` text. awake: `lora_B` and fusers' gates are randomised, so that they do something;
    gates of edges are half open."""
    from masc.backends.torch.build import build

    plan = compile_plan(text, folder, **options)
    program = build(plan, folder.parent, dtype=dtype, device=device)
    if awake:
        wake(program)
    return program


def wake(program: Any, seed: int = 1) -> None:
    import torch

    generator = torch.Generator().manual_seed(seed)
    for name, parameter in program.trainable().items():
        if ".lora_B." in name or name.endswith(".gate"):
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
        if name.endswith(".log_alpha"):
            parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)


def chain(*agents: tuple[str, int, str], edge: str = "kv", adapt: str = "lora(rank = 4, alpha = 8)") -> str:
    """A chain of agents (name, latent steps, align); the last one answers."""
    text = ["mas 1", "model m = MODEL"]
    for i, (name, steps, align) in enumerate(agents):
        answer = "answer (max_tokens = 6)" if i == len(agents) - 1 else ""
        text.append(
            f'agent {name} on m {{ system "You are {name}." user "{{q}}{"!" * i}" '
            f"think {steps} (align = {align}) adapt {adapt} {answer} }}"
        )
    path = " -> ".join(name for name, _, _ in agents)
    text.append(
        f"graph g(q) -> answer {{ {path} : {edge} }}" if len(agents) > 1 else f"graph g(q) -> answer {{ {path} }}"
    )
    return "\n".join(text)


ROWS = [{"q": "hello world " * k, "answer": "y" * n} for k, n in ((1, 3), (3, 1), (2, 6), (4, 2))]
"""Rows whose prompts and answers all differ in length."""

WINDOWED: list[tuple[str, dict[str, Any]]] = [
    (
        "gemma3_text",
        {"sliding_window": 24, "layer_types": ["sliding_attention", "full_attention", "sliding_attention"]},
    ),
    ("mistral", {"sliding_window": 24}),
    ("qwen2", {"use_sliding_window": True, "sliding_window": 24, "max_window_layers": 1}),
]
"""Types of models with sliding windows, and settings for tiny ones."""
