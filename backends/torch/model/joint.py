"""Adapters of several agents for one batch, the rows of each behind those of the one before, as many each: what all
share is computed once, and each adapter for its own rows, forward and backward.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from masc.backends.torch.model.applying import Projections
from masc.backends.torch.model.lora import Group, Output


class Joint(Group):
    """The projections of one module that read the same input, during activations that are computed together. Shapes as
    of `Group`, N the rows of all."""

    def __init__(self, groups: Sequence[Group], token: Tensor) -> None:
        """groups: of the same layers, their adapters of one shape. token: those of all adapters, side by side."""
        first = groups[0]
        self.groups, self._all_tokens = tuple(groups), token
        self.layers, self.sizes = first.layers, first.sizes
        self._made: tuple[Tensor, list[Tensor | None]] | None = None

    @property
    def token(self) -> Tensor:
        return self._all_tokens

    @property
    def halves(self) -> tuple[Tensor, ...]:
        return tuple(half for group in self.groups for half in group.halves)

    def below(self, x: Tensor, onto: Tensor | None = None) -> Tensor:
        return self.groups[0].below(x, onto)

    def add(self, x: Tensor, output: Tensor) -> Tensor:
        several = zip(self.groups, self._apart(x), self._apart(output), strict=True)
        return torch.cat([group.add(rows, onto) for group, rows, onto in several])

    def back_below(self, gradient: Tensor) -> Tensor:
        return self.groups[0].back_below(gradient)

    def back_add(
        self,
        x: Tensor,
        low: Tensor,
        gradient: Tensor,
        wanted: bool,
        given: Sequence[bool] | None,
        onto: Tensor | None,
    ) -> None:
        parts: list[Sequence[Any]] = [self._apart(each) for each in (x, low, gradient)]
        places = [None] * len(self.groups) if onto is None else self._apart(onto)
        for group, rows, own, of, place in zip(self.groups, *parts, places, strict=True):
            group.back_add(rows, own, of, wanted, given, place)

    def _apart(self, tensor: Tensor) -> tuple[Tensor, ...]:
        """The rows of each."""
        found: tuple[Tensor, ...] = tensor.split(len(tensor) // len(self.groups))
        return found


def joint(several: Sequence[Projections]) -> Projections:
    """What computes the layers under several adapters, given what does under each. ValueError where they do not sit on
    the same layers, are not of one shape, or PEFT computes them."""
    groups = [list(dict.fromkeys(_group(one) for one in each.values())) for each in several]
    shapes = {tuple((own.layers, *(tuple(half.shape) for half in own.halves)) for own in each) for each in groups}
    if len(shapes) != 1 or not groups[0]:
        raise ValueError("these adapters cannot be computed in one batch")
    token = torch.cat([each[0].token for each in groups])
    made = [Joint(own, token) for own in zip(*groups, strict=True)]
    return {layer: Output(group, at) for group in made for at, layer in enumerate(group.layers)}


def _group(computed: Any) -> Group:
    assert isinstance(computed, Output)
    return computed.group
