"""Gates of edges as tensors: the hard concrete distribution (docs/semantics.md, section 7.5).

A gate is z = clamp(sigmoid(...) * (zeta - gamma) + gamma, 0, 1), from 0 (the edge carries nothing) to 1 (as without a
gate). In training it is drawn anew for each sample; when a graph is run or evaluated it is one number.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from masc.compiler.channels.gate import BETA, GAMMA, SHUT, START, ZETA
from masc.compiler.ir.plan import Gate as Name

Open = Mapping[Name, Tensor | None]
"""How far gates of edges by which keys and values are seen are open, by edge: [B], or [1] for all samples alike, each
from 0 to 1. None: closed for all. An edge that is missing is wide open, as one without a gate is."""
OPEN: Open = {}
"""Of a graph without gates."""


class Gate(nn.Module):
    """The gate of one edge. log_alpha: what is trained, a scalar; the larger, the wider open."""

    def __init__(self) -> None:
        super().__init__()
        self.log_alpha = nn.Parameter(torch.full((), START, dtype=torch.float32, device="cpu"))

    def forward(self, draws: Tensor | None = None) -> Tensor:
        """How far it is open, in [0, 1]: [B] for uniform draws [B] in (0, 1), one for each sample; without draws what
        it is when training is over, [1]."""
        logit = self.log_alpha.view(1)
        if draws is not None:
            logit = (logit + draws.logit()) / BETA
        return (torch.sigmoid(logit) * (ZETA - GAMMA) + GAMMA).clamp(0, 1)

    @torch.no_grad()
    def hold(self) -> None:
        """Let it be no wider open than a fresh one, and no further closed than it is pulled: beyond, nothing would
        change but how long it takes to come back."""
        self.log_alpha.clamp_(SHUT, START)

    @property
    def price(self) -> Tensor:
        """What `sparsity` counts, a scalar with a gradient: 1 for a fresh gate, 0 for a closed one, in a line with
        log_alpha. The probability that a gate is above 0, as in the paper, is all but flat where a gate is wide open:
        there it pulls a hundred times weaker than the price says."""
        return (self.log_alpha - SHUT).clamp_min(0) / (START - SHUT)


def votes(draws: Tensor, losses: Tensor) -> Tensor:
    """What samples say of gates: the gradient of their losses' expected sum by each log_alpha, [G], of the draws [G, n]
    and losses [n] of n samples.

    log_alpha is where a logistic distribution has its middle, and 2 u - 1 is how its log-density changes with that:
    so what counts is whether samples whose gate was drawn low lose more. The gradient through the gate itself has the
    same mean, and is of little use: a receiver makes up for a small z by looking harder, and loses all of a sudden
    where z is next to 0. Few samples are drawn there, and each has a gradient as large as 1 / z."""
    return (2 * draws - 1).to(losses) @ losses


def plain(values: Mapping[str, Tensor]) -> dict[str, Tensor | None]:
    """Gates without those that are wide open for all samples, and None for those that are closed for all: where no
    gradient is wanted, the former are edges without gates, and the latter edges that are not there, to the bit."""
    if torch.is_grad_enabled():  # what is reached does not hang on what is drawn, nor differ between processes
        return dict(values)
    if not values:
        return {}
    ends = torch.stack([torch.stack([value.amin(), value.amax()]) for value in values.values()]).tolist()
    found: dict[str, Tensor | None] = {}
    for (name, value), (least, most) in zip(values.items(), ends, strict=True):
        if least < 1:
            found[name] = None if most == 0 else value
    return found


def product(gates: tuple[Name, ...], opened: Open) -> Tensor | None:
    """How open a way through several gates is, [B] or [1]; None: wide open."""
    found: Tensor | None = None
    for gate in gates:
        if gate in opened:
            value = opened[gate]
            assert value is not None, "a view through a closed gate is left out"
            found = value if found is None else found * value
    return found
