"""Under which adapters the rows of a batch run: folded into the weights where all have one, side by side where not."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import torch

from masc.backends.torch.model.applying import projecting, still, using
from masc.backends.torch.model.base import Base
from masc.backends.torch.model.folded import bare
from masc.backends.torch.model.grouped import Grouped

Adapting = Callable[[Sequence[str | None]], AbstractContextManager[None]]
"""By row of a batch, whose adapter it has (None: none). Within it passes over such a batch run so."""


def adapting(base: Base, names: Collection[str | None], beside: Collection[str | None], fold: bool = True) -> Adapting:
    """How rows run whose adapters are among these. One is folded where there is memory for a copy of the projections,
    else applied beside them; several are applied in one batch (DoRA is run alone). beside: all adapters that are needed
    in turn (None: rows without one, or with several). fold: False: no copies, whose rounding takes something from an
    adapter that is small beside its weights; in a long block what they save is little."""
    layers = base.adapted
    own = [name for name in dict.fromkeys(names) if name is not None]
    if not own:
        plain = base.folded.bare(base.groups, beside) if fold else bare(layers)
        return _fixed(base, lambda: projecting(plain))
    if fold and len(own) == 1 and len(set(names)) == 1:
        with torch.no_grad():
            found = base.folded.of(base.groups, own[0], beside)
            found = found or base.folded.same(layers, own, lambda: base.projections(own[0]))
        if found:
            return _fixed(base, lambda: projecting(found))
    if base.recurrent is not None and len(set(names)) == 1:
        return alone(base, own[0])  # rows may be read in parts
    if any(name in layer.lora_magnitude_vector for layer in layers for name in own):
        assert len(own) == 1 == len(set(names)), "DoRA is run alone"
        return _fixed(base, lambda: using(own[0]))

    kept = fold and len(own) > 1
    with torch.no_grad():
        below = base.folded.bare(base.groups, beside) if kept else bare(layers)

    def several() -> Grouped:
        return Grouped(base.groups, own, base.weight.dtype, below)

    grouped = base.folded.same(layers, own, several, below) if kept else several()

    @contextmanager
    def together(rows: Sequence[str | None]) -> Iterator[None]:
        grouped.choose(rows, base.device)
        with _plain(base), projecting(grouped.projections):
            yield

    return together


def alone(base: Base, name: str | None) -> Adapting:
    """All rows under one adapter (None: none), applied beside the weights, however they are split."""
    return _fixed(base, lambda: base.applying(name))


def _fixed(base: Base, context: Callable[[], AbstractContextManager[None]]) -> Adapting:
    @contextmanager
    def within(rows: Sequence[str | None]) -> Iterator[None]:
        with _plain(base), context(), still():
            yield

    return within


@contextmanager
def _plain(base: Base) -> Iterator[None]:
    """No gradients, and the dtypes that tensors have."""
    with torch.no_grad(), torch.autocast(base.device.type, enabled=False):
        yield
