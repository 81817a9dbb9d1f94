"""What agents send instead of what they would have sent: parts of segments and texts that others put there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from masc.backends.torch.engine.script import Thinking
from masc.backends.torch.model.segments import Segment

Part = Any
"""A tensor, for keys and values one for each layer, for texts one string a row; or a function of what would have been
sent that returns such a part (for latents: of one step's [B, 1, d])."""
Patches = Mapping[tuple[str, str], Part]
PARTS = ("latents", "keys", "values", "hidden", "texts")


def patched_thinking(patches: Patches, name: str, thinking: Thinking, batch: int, width: int) -> Thinking:
    """How an activation makes the inputs of its latent steps, patched. width: d."""
    if (name, "latents") not in patches:
        return thinking
    part, embed = patches[name, "latents"], thinking.embed
    if callable(part):

        def changed(hidden: Tensor) -> Tensor:
            own = embed(hidden)
            return _fitting(name, "latents", part(own), own)

        return replace(thinking, embed=changed)
    like = torch.empty(batch, thinking.steps, width, device="meta")
    if not isinstance(part, Tensor) or part.shape != like.shape:
        _fitting(name, "latents", part, like)
    return replace(thinking, given=part)


def patched_segment(patches: Patches, name: str, segment: Segment) -> Segment:
    """What others see of a segment, patched."""
    keys = _each(patches, name, "keys", [keys for keys, _ in segment.layers])
    values = _each(patches, name, "values", [values for _, values in segment.layers])
    hidden = segment.hidden
    if hidden is not None and (name, "hidden") in patches:
        part = patches[name, "hidden"]
        hidden = _fitting(name, "hidden", part(hidden) if callable(part) else part, hidden)
    return replace(segment, layers=tuple(zip(keys, values, strict=True)), hidden=hidden)


def patched_texts(patches: Patches, name: str, texts: list[str]) -> list[str]:
    """What others read of what an activation said, patched."""
    if (name, "texts") not in patches:
        return texts
    part = patches[name, "texts"]
    found = list(part(tuple(texts)) if callable(part) else part)
    if len(found) != len(texts) or not all(isinstance(text, str) for text in found):
        raise ValueError(f"the texts of `{name}` are {len(texts)} strings, one a row")
    return found


def _each(patches: Patches, name: str, what: str, own: list[Tensor]) -> list[Tensor]:
    """By layer."""
    if (name, what) not in patches:
        return own
    part = patches[name, what]
    found = tuple(part(tuple(own)) if callable(part) else part)
    if len(found) != len(own):
        raise ValueError(f"the {what} of `{name}` are {len(own)} tensors, one a layer, not {len(found)}")
    return [_fitting(name, what, one, tensor) for one, tensor in zip(found, own, strict=True)]


def _fitting(name: str, what: str, part: Any, own: Tensor) -> Tensor:
    if not isinstance(part, Tensor) or part.shape != own.shape:
        shape = list(part.shape) if isinstance(part, Tensor) else type(part).__name__
        raise ValueError(f"the {what} of `{name}` have the shape {list(own.shape)} here, not {shape}")
    return part.to(own.device, own.dtype)
