"""Tiny random models of every type that masc declares: two layers, with all that is special about each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from support import byte_tokenizer

_USUAL: Mapping[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
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
_EXPERTS = {
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "moe_num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_topk": 2,
    "moe_k": 2,
    "moe_intermediate_size": 24,
    "shared_expert_intermediate_size": 24,
    "n_group": 1,
    "topk_group": 1,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
}
_MIXED = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 4096}
_CAPPED = _MIXED | {"attn_logit_softcapping": 5.0, "final_logit_softcapping": 3.0, "query_pre_attn_scalar": 8}
_ASKED = {"sliding_window": 4096, "use_sliding_window": True}
_LATENT = {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8}
_SCALED = {"embedding_multiplier": 3.0, "residual_multiplier": 0.7, "logits_scaling": 2.0, "attention_multiplier": 0.3}
_HYBRID = {"layer_types": ["linear_attention", "full_attention"]}
_DELTA = _HYBRID | {
    "linear_num_value_heads": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
}
_CONV = {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1}
_SCAN = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_d_ssm": 64, "mamba_chunk_size": 8}
_BY_HEADS = {"head_dim": None}
"""Types whose heads are as wide as the model's width allows: the entry is left out."""
_ALL_HEADS = _BY_HEADS | {"num_key_value_heads": None}
"""Types that have keys and values for every head."""

MAKES: Mapping[str, Mapping[str, Any]] = {
    "afmoe": _EXPERTS,
    "apertus": {},
    "arcee": {},
    "bamba": _SCAN | {"attn_layer_indices": [1]},
    "cohere": {"logit_scale": 0.5},
    "cohere2": _MIXED,
    "deepseek_v2": _EXPERTS | _LATENT | _BY_HEADS | {"num_key_value_heads": 4},
    "deepseek_v3": _EXPERTS | _LATENT | _BY_HEADS | {"num_key_value_heads": 4},
    "dots1": _EXPERTS | _MIXED,
    "ernie4_5": {},
    "ernie4_5_moe": _EXPERTS,
    "exaone4": _MIXED,
    "exaone_moe": _EXPERTS | _MIXED,
    "falcon_h1": _SCAN
    | {"lm_head_multiplier": 0.5, "embedding_multiplier": 2.0, "key_multiplier": 0.7, "ssm_in_multiplier": 1.5},
    "flex_olmo": _EXPERTS | _BY_HEADS,
    "gemma": {},
    "gemma2": _CAPPED,
    "gemma3_text": _MIXED | {"final_logit_softcapping": 3.0},
    "gemma4_text": _MIXED
    | {
        "global_head_dim": 16,
        "num_kv_shared_layers": 0,
        "hidden_size_per_layer_input": 0,
        "vocab_size_per_layer_input": 1,
    },
    "glm": {},
    "glm4": {},
    "glm4_moe": _EXPERTS,
    "gpt_neox": _ALL_HEADS,
    "gpt_oss": _EXPERTS | _MIXED,
    "granite": _SCALED,
    "granitemoe": _EXPERTS | _SCALED,
    "granitemoehybrid": _EXPERTS
    | _SCALED
    | _SCAN
    | _HYBRID
    | {"shared_intermediate_size": 24, "position_embedding_type": "rope"},
    "granitemoeshared": _EXPERTS | _SCALED | {"shared_intermediate_size": 24},
    "helium": {},
    "hunyuan_v1_dense": {},
    "hunyuan_v1_moe": _EXPERTS,
    "hyperclovax": _SCALED,
    "jais2": {},
    "jamba": _EXPERTS | {"attn_layer_period": 2, "attn_layer_offset": 1, "mamba_d_state": 8, "mamba_dt_rank": 4},
    "lfm2": _CONV,
    "lfm2_moe": _EXPERTS | _CONV,
    "llama": {},
    "mamba2": {"num_heads": 8, "head_dim": 8, "state_size": 8, "n_groups": 1, "chunk_size": 8},
    "minimax_m2": _EXPERTS,
    "ministral": _MIXED,
    "ministral3": {"sliding_window": 4096},
    "mistral": {"sliding_window": 4096},
    "mixtral": _EXPERTS | {"sliding_window": 4096},
    "nanochat": {},
    "nemotron": {},
    "nemotron_h": _EXPERTS
    | {
        "layers_block_type": ["mamba", "attention", "moe"],
        "num_hidden_layers": 3,
        "mamba_num_heads": 8,
        "mamba_head_dim": 8,
        "ssm_state_size": 8,
        "n_groups": 1,
        "chunk_size": 8,
        "initializer_range": 0.1,
    },
    "olmo": _BY_HEADS,
    "olmo2": _BY_HEADS,
    "olmo3": _MIXED,
    "olmo_hybrid": _DELTA,
    "olmoe": _EXPERTS | _BY_HEADS,
    "persimmon": _ALL_HEADS,
    "phi": {},
    "phi3": {"sliding_window": 4096},
    "qwen2": _ASKED | {"max_window_layers": 1},
    "qwen2_moe": _EXPERTS,
    "qwen3": _ASKED | {"max_window_layers": 1},
    "qwen3_5_moe_text": _EXPERTS | _DELTA,
    "qwen3_5_text": _DELTA,
    "qwen3_moe": _EXPERTS | _ASKED,
    "qwen3_next": _EXPERTS | _DELTA,
    "seed_oss": {},
    "smollm3": {"no_rope_layers": [1, 0]},
    "stablelm": _BY_HEADS,
    "starcoder2": {"sliding_window": 4096},
    "vaultgemma": _CAPPED,
}
"""By type: what differs from the usual; None: left out."""
LIKE_OTHERS = (
    "afmoe",
    "apertus",
    "arcee",
    "bamba",
    "cohere",
    "deepseek_v2",
    "dots1",
    "ernie4_5_moe",
    "exaone_moe",
    "falcon_h1",
    "flex_olmo",
    "gemma",
    "glm4",
    "glm4_moe",
    "granitemoe",
    "granitemoeshared",
    "helium",
    "hunyuan_v1_moe",
    "hyperclovax",
    "jais2",
    "jamba",
    "lfm2_moe",
    "mamba2",
    "minimax_m2",
    "ministral",
    "nemotron",
    "nemotron_h",
    "olmo2",
    "olmo_hybrid",
    "olmoe",
    "persimmon",
    "qwen2_moe",
    "qwen3_5_moe_text",
    "qwen3_moe",
    "qwen3_next",
    "seed_oss",
    "stablelm",
    "starcoder2",
    "vaultgemma",
)
"""Types that are built of what others are built of: `benchmarks/families.py` proves them, the tests do not."""


def make_family(folder: Path, kind: str, **changes: Any) -> Path:
    """Write a tiny random model of a type. Norms and sinks are random, too: what is 1 everywhere hides mistakes."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.utils import logging

    tokenizer = byte_tokenizer()
    given = {"vocab_size": len(tokenizer), **_USUAL, **MAKES.get(kind, {}), **changes}
    settings = {name: value for name, value in given.items() if value is not None or name == "bos_token_id"}
    config = AutoConfig.for_model(kind, **settings)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        for name, parameter in model.named_parameters():
            if name.endswith("sinks"):
                parameter.copy_(torch.randn_like(parameter))
            elif parameter.dim() == 1 and bool((parameter == parameter[0]).all()):
                parameter.add_(torch.randn_like(parameter) * 0.1)
    logging.disable_progress_bar()
    model.save_pretrained(folder)
    logging.enable_progress_bar()
    tokenizer.save_pretrained(folder)
    return folder
