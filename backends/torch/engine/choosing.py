"""Which token comes next (docs/semantics.md, section 12).

For each token of a sampled answer one number in [0, 1) is drawn from the answer's own generator: what is sampled
depends on nothing but its seed and the model's numbers, whoever shares the batch and however it is computed.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from masc.compiler.ir.plan import Sampling


class Draws:
    """The numbers of one answer, in the order of its tokens."""

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def next(self, count: int) -> Tensor:
        """The next ones, float64 [count], on the CPU."""
        return torch.rand(count, generator=self._generator, dtype=torch.float64, device="cpu")


def settings(samplings: Sequence[Sampling], like: Tensor) -> Tensor | None:
    """Temperature and top-p of each sample, [B, 2], on the device of a tensor; None: nothing is sampled."""
    if not any(one.temperature for one in samplings):
        return None
    table = [(one.temperature, one.top_p) for one in samplings]
    return torch.tensor(table, dtype=torch.float64, device=like.device)


def choose(logits: Tensor, table: Tensor | None, draws: Tensor | None) -> Tensor:
    """One token per sample, long [B]. logits: [B, V]; table: the `settings` of the samples; draws: a number in [0, 1)
    for each, [B]."""
    best = logits.argmax(-1)
    if table is None or draws is None:
        return best
    temperature, top_p = table.to(logits.dtype)[..., None].unbind(1)
    sampled = temperature > 0
    drawn = _drawn(logits, temperature.masked_fill(~sampled, 1.0), top_p, draws.to(logits.dtype)[:, None])
    return torch.where(sampled[:, 0], drawn, best)


def _drawn(logits: Tensor, temperature: Tensor, top_p: Tensor, draws: Tensor) -> Tensor:
    """The first token, in the order of their probability, at which the probability of all kept ones up to it is more
    than the share `draws` of the whole. All but the logits are [B, 1]."""
    # The largest becomes 0 before the division: a temperature near 0 then gives -inf elsewhere, not inf - inf.
    probabilities = torch.softmax((logits - logits.amax(-1, keepdim=True)) / temperature, -1)
    ranked, order = probabilities.sort(dim=-1, descending=True, stable=True)
    # Keep the smallest set whose mass reaches top_p: a token stays if the mass before it is still short of that.
    kept = ranked * ((ranked.cumsum(-1) - ranked) < top_p)
    mass = kept.cumsum(-1)
    place = (mass <= draws * mass[:, -1:]).sum(-1, keepdim=True)
    # Where the share is rounded up to the whole: the last that is kept. Of what is no number anything may be drawn: its
    # score says so, and whoever decodes looks at that.
    place = place.minimum((kept > 0).sum(-1, keepdim=True) - 1).clamp_min(0)
    return order.gather(1, place)[:, 0]


def scores(logits: Tensor, choice: Tensor) -> Tensor:
    """The log-probability of each choice [B] under logits [B, V], whatever the sampling. NaN or infinite where a logit
    is NaN or inf, or all are -inf; -inf alone is a token that cannot be said."""
    return logits.gather(1, choice[:, None])[:, 0] - logits.logsumexp(-1)
