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

_BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}
"""What a number's bits are read as, by its bytes."""


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
        self._known: dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor, Tensor]] = {}

    def __call__(self, embeddings: Tensor) -> Tensor:
        """Vectors [B, Q, L, p] of input embeddings [B, Q, d]."""
        found: Tensor = self.decoder.get_per_layer_inputs(self.tokens(embeddings))
        return found

    @torch.no_grad()
    def tokens(self, embeddings: Tensor) -> Tensor:
        """Which token each one is, long [B, Q]; padding: none. Of tokens with equal embeddings it is the first."""
        factors, sums, order = self._table(embeddings)
        own = summed(embeddings, factors)
        at = torch.searchsorted(sums, own).clamp(max=len(sums) - 1)
        token = order[at]
        same = (sums[at] == own) & (self.decoder.get_input_embeddings()(token) == embeddings).all(-1)
        return torch.where(same, token, self.padding)

    def _table(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Factors, long [d]; what the embeddings of all tokens come to by them, in order, long [V]; and whose each is,
        long [V]."""
        key = (like.device, like.dtype)
        if key not in self._known:
            embedding = self.decoder.get_input_embeddings()
            count, width = embedding.weight.shape
            with torch.inference_mode(False):
                factors = factors_of(width).to(like.device)
                parts = torch.arange(count, device=like.device).split(4096)
                sums = torch.cat([summed(embedding(part), factors) for part in parts])
                self._known[key] = factors, *torch.sort(sums, stable=True)
        return self._known[key]


def factors_of(width: int) -> Tensor:
    """Numbers of 62 bits, long [d]; the same each time."""
    return torch.randint(1 << 62, (width,), generator=torch.Generator().manual_seed(0))


def summed(embeddings: Tensor, factors: Tensor) -> Tensor:
    """A number for the bits of each embedding [..., d]: long [...]. It is the same for equal ones, and hardly ever for
    others."""
    bits = embeddings.detach().view(_BITS[embeddings.element_size()]).long()
    if embeddings.element_size() == 8:  # half of which are zeros, if they were narrower once
        bits = bits ^ (bits >> 32)
    return (bits * factors).sum(-1)
