"""How many positions a row takes, held against what there is room for (E0606)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from masc.backends.torch.engine.refusals import too_long
from masc.backends.torch.model.base import Base
from masc.backends.torch.model.prompts import Content, check_size


def limit_of(base: Base, most: int) -> int:
    """The most positions of a sample; 0: there is no limit. most: what is asked for (0: the model's)."""
    return min((n for n in (base.max_positions, most) if n), default=0)


def check_sizes(
    base: Base, agent: str, contents: Sequence[Mapping[str, Content]], indices: Sequence[int], most: int
) -> None:
    """E0606 for texts that need not be tokenised to see that they do not fit."""
    for filled, i in zip(contents, indices, strict=False):
        texts = [text for text in filled.values() if isinstance(text, str)]
        check_size(base, texts, limit_of(base, most), f"row {i + 1}: the prompt of agent `{agent}`")


def check_end(base: Base, agent: str, end: Tensor, indices: Sequence[int], most: int) -> None:
    """Nothing is cut off silently: past the model's last position is an error (E0606). end: long [B], of as many rows
    as there are indices."""
    limit = limit_of(base, most)
    ends = end.tolist() if limit else [0]
    if max(ends) > limit:
        raise too_long(agent, indices[ends.index(max(ends))], max(ends), limit)
