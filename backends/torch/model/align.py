"""Latent alignment: from the last hidden state back to an input embedding (docs/semantics.md, section 6).

`norm` is LatentMAS's (arXiv 2511.20639) norm matching, `ridge` its training-free linear map, `linear` the same map,
trained. `soft` is the mean of the embeddings, weighted with their probabilities, after Soft Thinking (arXiv
2505.15778), but of all tokens.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

RIDGE = 1e-5


@torch.no_grad()
def embedding_table(embedding: nn.Module, rows: int) -> Tensor:
    """What the embedding *module* returns for each token, float32 [V, d]. Gemma scales inside the module."""
    device = next(embedding.parameters()).device
    ids = torch.arange(rows, device=device)
    return torch.cat([embedding(chunk).float() for chunk in ids.split(8192)])


def mean_norm(table: Tensor) -> Tensor:
    """tau: the mean L2 norm of the rows, scalar float32."""
    tau: Tensor = table.norm(dim=1).mean()
    return tau


@torch.no_grad()
def ridge_map(output: Tensor, table: Tensor) -> Tensor:
    """W = (Wo'Wo + 1e-5 I)^-1 Wo'Wi in float32, [d, d]: hidden states to input embeddings.

    output: Wo [V, d], the output embedding. table: Wi [V, d], what the input embedding module returns.
    """
    output = output.float()
    gram = output.T @ output + RIDGE * torch.eye(output.shape[1], dtype=output.dtype, device=output.device)
    matrix: Tensor = torch.linalg.solve(gram, output.T @ table)
    return matrix


def align(hidden: Tensor, tau: Tensor, matrix: Tensor | None) -> Tensor:
    """The next input embedding: hidden [B, 1, d] (times matrix [d, d]), scaled to the norm tau. Same dtype as
    hidden."""
    wide = hidden.to(torch.promote_types(hidden.dtype, torch.float32))
    if matrix is not None:
        wide = wide @ matrix.to(wide.dtype)
    scale = tau.to(wide.dtype) / wide.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    embedding: Tensor = (wide * scale).to(hidden.dtype)
    return embedding


def soft(logits: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    """The next input embedding [B, 1, d] as the mean of all tokens' embeddings (weight [V, d], times what the embedding
    module scales it by), weighted with their probabilities (logits [B, 1, V]); the dtype of the weight.

    It is not brought to the norm tau: where the model is unsure the mean is short, and to stretch it would stretch its
    gradient by as much, once for each latent step.
    """
    return (logits.softmax(-1).to(weight.dtype) @ weight) * scale.to(weight.dtype)
