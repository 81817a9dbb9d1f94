"""Models of a given shape with random weights, and a tokenizer whose tokens are words: `w17` is token 17 + a few.

How fast a model is depends on its shape alone. With words as tokens a prompt has exactly as many positions as are
wanted, and what a model says is as many tokens when another agent reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

WORDS = 512
"""How many different words the tokenizer reads at most; a vocabulary's further tokens are words, too."""
SPECIAL = ("<|pad|>", "<|im_start|>", "<|im_end|>", "<|unknown|>")
ROLES = ("system", "user", "assistant")
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }} {{ m['content'] }}<|im_end|>{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant {% endif %}"
)
FRAME = 8
"""Positions of a prompt with a system text beside its words: two messages of a start, a role and an end, and the
beginning of an answer."""
END = SPECIAL.index("<|im_end|>")


@dataclass(frozen=True)
class Shape:
    """Of a decoder. kind: transformers' model type. attending: of a hybrid (lfm2), the layers that have attention."""

    name: str
    kind: str
    layers: int
    width: int
    heads: int
    kv_heads: int
    head: int
    inner: int
    vocabulary: int
    tied: bool
    attending: tuple[int, ...] | None = None

    def config(self, **changes: Any) -> Any:
        settings: dict[str, Any] = {
            "num_hidden_layers": self.layers,
            "hidden_size": self.width,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head,
            "intermediate_size": self.inner,
            "vocab_size": self.vocabulary,
            "tie_word_embeddings": self.tied,
            "max_position_embeddings": 16384,
            "pad_token_id": 0,
            "bos_token_id": None,
            "eos_token_id": END,
        }
        if self.attending is not None:
            kinds = ["full_attention" if i in self.attending else "conv" for i in range(self.layers)]
            settings |= {"layer_types": kinds, "block_auto_adjust_ff_dim": False}
        return AutoConfig.for_model(self.kind, **{**settings, **changes})


SMOLLM2 = Shape("SmolLM2-135M", "llama", 30, 576, 9, 3, 64, 1536, 49152, True)
QWEN3_06B = Shape("Qwen3-0.6B", "qwen3", 28, 1024, 16, 8, 128, 3072, 151936, True)
QWEN3_8B = Shape("Qwen3-8B", "qwen3", 36, 4096, 32, 8, 128, 12288, 151936, False)
LFM2 = Shape("LFM2-350M", "lfm2", 16, 1024, 16, 8, 64, 4608, 65536, True, (2, 5, 8, 10, 12, 14))
TOY = Shape("toy", "llama", 2, 32, 4, 2, 8, 52, 1024, True)
TOY_LFM2 = Shape("toy", "lfm2", 2, 32, 4, 2, 8, 52, 1024, True, (1,))
TOY_QWEN3 = Shape("toy", "qwen3", 2, 32, 4, 2, 8, 52, 1024, True)


def tokenizer(vocabulary: int, template: str | None = TEMPLATE) -> Any:
    """Words to tokens and back. Of `vocabulary` tokens each is a word of its own, so that whatever a model says can be
    read again."""
    head = [*SPECIAL, *ROLES]
    names = {token: i for i, token in enumerate(head)}
    names |= {f"w{i}": len(head) + i for i in range(vocabulary - len(head))}
    made = Tokenizer(models.WordLevel(names, unk_token="<|unknown|>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="<|pad|>", eos_token="<|im_end|>", unk_token="<|unknown|>"
    )
    fast.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    fast.chat_template = template
    return fast


def word(token: int) -> str:
    """The word that is a token."""
    return f"w{token - len(SPECIAL) - len(ROLES)}"


def words(count: int, seed: int = 0) -> str:
    """So many words, some or other."""
    return " ".join(f"w{(seed * 131 + i * 37) % WORDS}" for i in range(count))


def write_model(folder: Path, shape: Shape, dtype: torch.dtype, *, seed: int = 0) -> Path:
    """Write a random model of a shape, in a dtype, with its tokenizer."""
    model = random_model(shape, dtype, seed=seed)
    model.save_pretrained(folder)
    tokenizer(shape.vocabulary).save_pretrained(folder)
    return folder


def random_model(shape: Shape, dtype: torch.dtype, *, device: str = "cpu", seed: int = 0) -> Any:
    """A random model, made on the device."""
    with torch.random.fork_rng(), torch.device(device):
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(shape.config(), dtype=dtype, attn_implementation="sdpa").eval()


def write_countdown(folder: Path, most: int, *, inner: int = TOY.inner, width: int = 128) -> Path:
    """Write a model that counts down: behind token t it says t - 1, and the end of its turn behind the first word. So
    the last word of a prompt decides how long the answer is (`counting_from`). Its layers compute what layers compute
    and add nothing. It has no chat template: then a prompt ends with what its author wrote."""
    first = len(SPECIAL) + len(ROLES)
    vocabulary = first + most + 2
    shape = Shape("countdown", "llama", 2, width, 4, 2, 8, inner, vocabulary, False)
    model = random_model(shape, torch.float32)
    with torch.no_grad():
        model.model.embed_tokens.weight.normal_(generator=torch.Generator().manual_seed(0))
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        table = model.model.embed_tokens.weight
        model.lm_head.weight.zero_()
        model.lm_head.weight[first:-1] = table[first + 1 :]
        model.lm_head.weight[END] = table[first]
    model.save_pretrained(folder)
    tokenizer(vocabulary, template=None).save_pretrained(folder)
    return folder


def counting_from(lengths: Sequence[int]) -> list[str]:
    """The words behind which the countdown says so many tokens."""
    return [f"w{length}" for length in lengths]
