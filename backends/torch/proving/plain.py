"""The other side of each identity: transformers alone, with its own attention and masks, without a cache of masc's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from masc.backends.torch.model.attention import NAME
from masc.backends.torch.model.base import Base


@contextmanager
def plainly(base: Base) -> Iterator[None]:
    """Within it the model runs as transformers made it: its eager attention, nobody's adapter."""
    base.model.set_attn_implementation("eager")
    try:
        with base.applying(None), torch.no_grad(), expert_by_expert(base):
            yield
    finally:
        base.model.set_attn_implementation(NAME)


def logits_of(base: Base, ids: Sequence[int], embeddings: Tensor | None = None) -> Tensor:
    """Logits [T, V] of one plain pass over tokens, or over input embeddings [1, T, d] in their place. ids: which tokens
    these are (padding: none), too, for models that ask."""
    tokens = torch.tensor([list(ids)], device=base.device)
    given = {"input_ids": tokens} if embeddings is None else {"inputs_embeds": embeddings}
    if embeddings is not None and base.per_layer is not None:
        given["per_layer_inputs"] = base.model.get_decoder().get_per_layer_inputs(tokens)
    with plainly(base):
        found: Tensor = base.model(**given, use_cache=False).logits[0]
    return found.to(torch.promote_types(found.dtype, torch.float32))


@contextmanager
def expert_by_expert(base: Base) -> Iterator[None]:
    """Within it experts are computed one after the other: grouped products know no float64."""
    before = base.model.config._experts_implementation
    base.model.set_experts_implementation("eager")
    try:
        yield
    finally:
        base.model.set_experts_implementation(before)


@contextmanager
def narrowed(base: Base, width: int) -> Iterator[None]:
    """Within it windows are so narrow that short prompts go beyond them; else nothing would be proven about windows."""
    blocks = [getattr(block, "self_attn", None) for block in getattr(base.model.get_decoder(), "layers", ())]
    names = ("sliding_window", "attention_chunk_size")
    before = [(each, n, getattr(each, n)) for each in (base.config, *blocks) for n in names if getattr(each, n, None)]
    for each, name, _ in before:
        setattr(each, name, width)
    vars(base).pop("_windows", None)
    try:
        yield
    finally:
        for each, name, window in before:
            setattr(each, name, window)
        vars(base).pop("_windows", None)
