"""Attention with a mask for each layer.

Transformers hands every layer one and the same mask, and takes a 4-D mask as it is. So a mask here is
[B, 1, Q, K] (the same for all layers) or [B, L, Q, K] (layer by layer), and the registered function picks its layer.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, sdpa_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

NAME = "masc"
"""What `attn_implementation` is set to on every base model."""


def _by_layer(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    if attention_mask is not None and attention_mask.shape[1] > 1:
        layer: int = module.layer_idx  # type: ignore[assignment]
        attention_mask = attention_mask[:, layer : layer + 1]
    return sdpa_attention_forward(module, query, key, value, attention_mask, **kwargs)


ALL_ATTENTION_FUNCTIONS.register(NAME, _by_layer)
ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, sdpa_mask)


def block_mask(past: Tensor | None, new: Tensor) -> Tensor | None:
    """The mask for a block of new positions that see a past and, causally, each other.

    past: bool [B, 1 or L, T], which past columns are seen (None: there is no past). new: bool [B, Q], which new columns
    are real. Returns bool [B, 1 or L, Q, T + Q], or None where plain causal attention is the same and faster.
    A padded column sees at least itself: a row of a softmax must not be empty.
    """
    batch, width = new.shape
    whole = bool(new.all())
    if past is None and whole:
        return None
    if width == 1 and whole and past is not None and bool(past.all()):
        return None
    causal = torch.ones(width, width, dtype=torch.bool, device=new.device).tril()
    own = (causal & new[:, None, :]) | torch.eye(width, dtype=torch.bool, device=new.device)
    own = own[:, None]
    if past is None:
        return own
    layers = past.shape[1]
    return torch.cat(
        [past[:, :, None, :].expand(batch, layers, width, -1), own.expand(batch, layers, width, width)], dim=3
    )
