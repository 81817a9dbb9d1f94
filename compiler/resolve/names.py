"""Names that an agent cannot have.

An agent's name becomes an adapter's name. PEFT keeps adapters in torch's ModuleDict, whose keys cannot be its own
attributes, and tells them apart by looking for `.name.` in parameter names, where the names of modules stand as well.
"""

from __future__ import annotations

# What `dir(torch.nn.ModuleDict())` and `dir(torch.nn.ParameterDict())` hold, written out: torch is not imported here.
_TORCH = """
T_destination add_module apply bfloat16 buffers call_super_init children clear compile copy cpu cuda double dump_patches
eval extra_repr float forward fromkeys get get_buffer get_extra_state get_parameter get_submodule half ipu items keys
load_state_dict modules mtia named_buffers named_children named_modules named_parameters parameters pop popitem
register_backward_hook register_buffer register_forward_hook register_forward_pre_hook register_full_backward_hook
register_full_backward_pre_hook register_load_state_dict_post_hook register_load_state_dict_pre_hook register_module
register_parameter register_state_dict_post_hook register_state_dict_pre_hook requires_grad_ set_extra_state
set_submodule setdefault share_memory state_dict to to_empty train training type update values xpu zero_grad
"""
_MODULES = """
act_fn attn base_layer base_model bias default down_proj embed_tokens gate_proj input_layernorm k_norm k_proj layer
layers lm_head mlp model modules_to_save norm o_proj post_attention_layernorm post_feedforward_layernorm q_norm q_proj
rotary_emb self_attn up_proj v_proj weight
"""
_RESERVED = frozenset((_TORCH + _MODULES).split())


def reserved(name: str) -> str | None:
    """Why an agent cannot be called so; None where it can."""
    if "lora_" in name:
        return "adapters' parameters are called `lora_...`"
    if name.startswith("_"):
        return "an agent's name starts with a letter"
    if name in _RESERVED:
        return "an adapter of this name would collide with a part of the model"
    return None
