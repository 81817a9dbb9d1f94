"""Latent alignment: from the last hidden state back to an input embedding (docs/semantics.md, section 6).

`norm` is LatentMAS's (arXiv 2511.20639) norm matching, `ridge` its training-free linear map, `linear` the same map,
trained, `procrustes` an orthogonal one. `soft` is the mean of the embeddings, weighted with their probabilities, after
Soft Thinking (arXiv 2505.15778), but of all tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

RIDGE = 1e-5

Fit = Callable[[Tensor, Tensor], Tensor]
"""Output embeddings Wo [V, d] and input embeddings Wi [V, e], float32, to a matrix [d, e] with Wo @ matrix near Wi."""
Embed = Callable[[Tensor], Tensor]
"""The last hidden state [B, 1, d] to the next input embedding, of the same shape."""


class Model(Protocol):
    """What alignments ask of a base model (`base.py`)."""

    @property
    def tau(self) -> Tensor: ...

    @property
    def scale(self) -> Tensor: ...

    @property
    def weight(self) -> Tensor: ...

    def logits(self, hidden: Tensor) -> Tensor: ...

    def fitted(self, fit: Fit) -> Tensor: ...


@torch.no_grad()
def embedding_table(embedding: nn.Module, rows: int) -> Tensor:
    """What the embedding *module* returns for each token, float32 [V, d]. Gemma scales inside the module."""
    return torch.cat(list(_parts(embedding, rows)))


def _parts(embedding: nn.Module, rows: int) -> Iterator[Tensor]:
    """The same in parts of some thousand tokens."""
    device = next(embedding.parameters()).device
    for chunk in torch.arange(rows, device=device).split(8192):
        yield embedding(chunk).float()


@torch.no_grad()
def mean_norm(embedding: nn.Module, rows: int) -> Tensor:
    """tau: the mean L2 norm of what the embedding module returns for each token, scalar float32. Part by part: of a
    large model the whole table would be gigabytes."""
    tau: Tensor = torch.cat([part.norm(dim=1) for part in _parts(embedding, rows)]).mean()
    return tau


def scale_inside(decoder: Any) -> None:
    """Let the embedding module do what the decoder does to what it returns, where it does so to tokens alone and not to
    vectors that are given in their place (falcon_h1)."""
    factor = getattr(decoder, "embedding_multiplier", 1.0)
    embedding = decoder.get_input_embeddings()
    if decoder.config.model_type != "falcon_h1" or factor == 1.0:
        return

    class Scaled(type(embedding)):  # type: ignore[misc]
        def forward(self, ids: Tensor) -> Tensor:
            found: Tensor = super().forward(ids) * factor
            return found

    embedding.__class__ = Scaled
    decoder.embedding_multiplier = 1.0


@torch.no_grad()
def mean_length(weight: Tensor) -> Tensor:
    """The mean L2 norm of the rows of a weight, scalar float32."""
    found: Tensor = torch.cat([part.float().norm(dim=1) for part in weight.split(8192)]).mean()
    return found


@torch.no_grad()
def ridge_map(output: Tensor, table: Tensor) -> Tensor:
    """W = (Wo'Wo + 1e-5 I)^-1 Wo'Wi in float32, [d, e]: hidden states to input embeddings.

    output: Wo [V, d], the output embedding. table: Wi [V, e], what the input embedding module returns.
    """
    output = output.float()
    gram = output.T @ output + RIDGE * torch.eye(output.shape[1], dtype=output.dtype, device=output.device)
    matrix: Tensor = torch.linalg.solve(gram, output.T @ table)
    return matrix


@torch.no_grad()
def procrustes_map(output: Tensor, table: Tensor) -> Tensor:
    """The orthogonal W that brings Wo W nearest to Wi, float32 [d, d]: hidden states to input embeddings.

    W = U V' of the singular value decomposition Wo'Wi = U S V' (P. H. Schönemann, A generalized solution of the
    orthogonal Procrustes problem, Psychometrika 31, 1966). output, table: as for `ridge_map`, both [V, d]. Computed in
    float64 on the CPU, so that it is the same on every device. Directions that no embedding has, of which the
    decomposition says nothing, stay as they are.
    """
    pairs = zip(output.cpu().split(8192), table.cpu().split(8192), strict=True)
    cross = torch.zeros(output.shape[1], table.shape[1], dtype=torch.float64, device="cpu")
    for some, theirs in pairs:
        cross += some.double().T @ theirs.double()
    cross += 1e-12 * cross.norm() * torch.eye(len(cross), dtype=cross.dtype, device="cpu")
    left, _, right = torch.linalg.svd(cross)
    matrix: Tensor = (left @ right).to(table)
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


START: Fit = ridge_map
"""Where trained matrices start: those of latent steps, and the links of `hidden` edges."""


def _mapped(fit: Fit) -> Callable[[Model, Tensor | None], Embed]:
    """Through a map that is fitted to the model and stays."""
    return lambda model, matrix: partial(align, tau=model.tau, matrix=model.fitted(fit))


def _trained(model: Model, matrix: Tensor | None) -> Embed:
    return partial(align, tau=model.tau, matrix=matrix)


def _soft(model: Model, matrix: Tensor | None) -> Embed:
    return lambda hidden: soft(model.logits(hidden), model.weight, model.scale)


EMBEDS: Mapping[str, Callable[[Model, Tensor | None], Embed]] = {
    "norm": lambda model, matrix: partial(align, tau=model.tau, matrix=None),
    "ridge": _mapped(ridge_map),
    "linear": _trained,
    "procrustes": _mapped(procrustes_map),
    "soft": _soft,
}
"""How each alignment that the language has (`compiler/language/alignments.py`) is computed."""


def embedding(model: Model, name: str, matrix: Tensor | None = None) -> Embed:
    """What makes the next input embedding of a last hidden state, for the alignment of a name. matrix: the agent's
    trained one, [d, d], where the alignment has one."""
    return EMBEDS[name](model, matrix)
