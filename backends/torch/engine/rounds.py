"""Gradients told apart by activation: rounds of an agent, and agents that share an adapter, each have a part in it."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from masc.backends.torch.model import adapters
from masc.backends.torch.model.applying import Aliases
from masc.backends.torch.model.base import Base

Rounds = dict[str, dict[str, Tensor]]
"""By activation and parameter, what it contributes to the gradient."""


def noting(rounds: Rounds | None, base: Base, adapter: str | None, activation: str) -> Aliases | None:
    """Where gradients are told by round: aliases of an adapter that note what an activation contributes to each."""
    if rounds is None or adapter is None or not torch.is_grad_enabled():
        return None
    made = adapters.aliases(base.model, adapter)
    for parameter, (_, alias) in made.items():
        alias.register_hook(partial(_note, rounds, activation, parameter))
    return made


def _note(rounds: Rounds, activation: str, parameter: str, gradient: Tensor | None) -> None:
    """Add to what an activation contributes to a parameter's gradient."""
    if gradient is None:  # what is behind the parameter was not reached
        return
    known = rounds.setdefault(activation, {})
    known[parameter] = known[parameter] + gradient.detach() if parameter in known else gradient.detach()
