"""`masc models convert`: a GGUF file becomes a folder that masc reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGUFWriter

from courier import Command
from masc.backends.torch.model.loading import load
from masc.compiler.models.locate import check_model
from support import TEMPLATE

_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def written(folder: Path, file: Path, template: str | None) -> None:
    """A tiny llama as llama.cpp's converter would write it: heads of queries and keys interleaved."""
    model, tokenizer = load(folder, torch.float32)
    config, heads = model.config, {"attn_q": 4, "attn_k": 2}
    out = GGUFWriter(file, "llama")
    out.add_context_length(config.max_position_embeddings)
    out.add_embedding_length(config.hidden_size)
    out.add_block_count(config.num_hidden_layers)
    out.add_feed_forward_length(config.intermediate_size)
    out.add_head_count(config.num_attention_heads)
    out.add_head_count_kv(config.num_key_value_heads)
    out.add_key_length(config.head_dim)
    out.add_value_length(config.head_dim)
    out.add_rope_dimension_count(config.head_dim)
    out.add_layer_norm_rms_eps(config.rms_norm_eps)
    out.add_vocab_size(config.vocab_size)
    out.add_tokenizer_model("gpt2")
    out.add_token_list(tokenizer.convert_ids_to_tokens(range(len(tokenizer))))
    out.add_token_types([3 if i in tokenizer.all_special_ids else 1 for i in range(len(tokenizer))])
    out.add_token_scores([0.0] * len(tokenizer))
    out.add_eos_token_id(2)
    if template is not None:
        out.add_chat_template(template)
    for name, value in model.state_dict().items():
        one = value.numpy()
        stem = name.removesuffix(".weight")
        if stem.startswith("model.layers."):
            _, _, number, part = stem.split(".", 3)
            kind = _NAMES[part]
            if kind in heads:
                halves = one.reshape(heads[kind], 2, -1, one.shape[1])
                one = halves.swapaxes(1, 2).reshape(one.shape)
            out.add_tensor(f"blk.{number}.{kind}.weight", np.ascontiguousarray(one))
        else:
            out.add_tensor(f"{_NAMES[stem]}.weight", one)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def test_a_file_becomes_a_model(masc: Command, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written(tiny, tmp_path / "small.gguf", TEMPLATE)
    done = masc("models", "convert", "small.gguf")
    assert (done.code, done.out.strip()) == (0, "small"), done.err
    assert not [d for d in check_model("./small", tmp_path)[1] if d.code.startswith("E")]
    (plain, words), (found, again) = load(tiny, torch.bfloat16), load(tmp_path / "small", torch.bfloat16)
    ids = torch.tensor([words.encode("hello, world")])
    assert again.encode("hello, world") == ids[0].tolist()
    with torch.no_grad():
        torch.testing.assert_close(found(ids).logits, plain(ids).logits)
    assert "E0612" in masc("models", "convert", "small.gguf").err


def test_what_cannot_be_converted_leaves_nothing(
    masc: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.gguf").write_text("no such thing")
    (tmp_path / "cut.gguf").write_bytes(b"GGUF\x03\x00\x00\x00")
    for name in ("text", "cut", "none"):
        done = masc("models", "convert", f"{name}.gguf")
        assert (done.code, "E0543" in done.err) == (1, True), done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut.gguf", "text.gguf"]
