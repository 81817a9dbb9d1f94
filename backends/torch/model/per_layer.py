"""What gemma4 does that others do not: layers that read what earlier ones keep, and per-layer embeddings.

Its last layers have no keys and values of their own; each reads those of the last layer of its kind that has some.

Per-layer embeddings are what a model adds in each layer by the token that stands at a position.

Such a model has to know the token of every position, and much of what agents read is given as vectors: latents, hidden
states, and prompts with either in them. So the token is found again: an input embedding that is, to the bit, what the
embedding module returns for a token is that token. All other positions have the vectors of the padding token, as
transformers gives them to images and sounds.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_LOOKED = 8
"""Numbers of an embedding by which a token is looked up; then all are compared."""
_FACTOR = 6364136223846793005  # of Knuth's MMIX generator: odd, and of many bits


def tell_sources(decoder: Any) -> None:
    """Let each layer that reads the keys and values of an earlier one know which that is (`reads`): it sees of others
    what that one sees."""
    kept: dict[Any, int] = {}
    for index, block in enumerate(getattr(decoder, "layers", ())):
        attention = getattr(block, "self_attn", None)
        kind = getattr(attention, "layer_type", None)
        if attention is not None and getattr(attention, "is_kv_shared_layer", False):
            attention.reads = kept[kind]
        else:
            kept[kind] = index


class PerLayer:
    """Finds the vectors of a decoder that has them."""

    def __init__(self, decoder: Any) -> None:
        self.decoder = decoder
        self.padding = int(decoder.config.pad_token_id or 0)
        self._known: dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor]] = {}

    def __call__(self, embeddings: Tensor) -> Tensor:
        """Vectors [B, Q, L, p] of input embeddings [B, Q, d]."""
        found: Tensor = self.decoder.get_per_layer_inputs(self.tokens(embeddings))
        return found

    @torch.no_grad()
    def tokens(self, embeddings: Tensor) -> Tensor:
        """Which token each one is, long [B, Q]; padding: none. Of tokens with equal embeddings it is the first."""
        sums, order = self._table(embeddings)
        own = _summed(embeddings)
        at = torch.searchsorted(sums, own).clamp(max=len(sums) - 1)
        token = order[at]
        same = (sums[at] == own) & (self.decoder.get_input_embeddings()(token) == embeddings).all(-1)
        return torch.where(same, token, self.padding)

    def _table(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """What the embeddings of all tokens come to, in order, long [V], and whose each is, long [V]."""
        key = (like.device, like.dtype)
        if key not in self._known:
            embedding = self.decoder.get_input_embeddings()
            with torch.inference_mode(False):
                parts = torch.arange(embedding.weight.shape[0], device=like.device).split(8192)
                self._known[key] = torch.sort(torch.cat([_summed(embedding(part)) for part in parts]), stable=True)
        return self._known[key]


def _summed(embeddings: Tensor) -> Tensor:
    """A number for the first few of an embedding's numbers [..., d]: long [...], equal where these are."""
    found = torch.zeros(embeddings.shape[:-1], dtype=torch.long, device=embeddings.device)
    for number in embeddings[..., :_LOOKED].double().contiguous().view(torch.long).unbind(-1):
        found = found * _FACTOR + number
    return found
