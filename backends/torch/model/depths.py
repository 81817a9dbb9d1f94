"""What a model computes on its way: hidden states behind each of its layers, and what would be said of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn

from masc.backends.torch.model.base import Base

_NORMS = ("norm", "final_layernorm", "final_layer_norm", "embedding_norm", "norm_f")
"""What the types of models that masc knows call the norm behind their last layer."""


@contextmanager
def noting(base: Base, layers: Collection[int], note: Callable[[int, Tensor], None]) -> Iterator[None]:
    """Within it, `note` is told the hidden states [B, Q, d] behind each of these layers, pass by pass, of what this
    thread runs; other threads run as ever."""
    here = threading.get_ident()

    def told(layer: int, _: nn.Module, __: Any, out: Any) -> None:
        if threading.get_ident() == here:
            note(layer, out[0] if isinstance(out, tuple) else out)

    blocks: Any = base.model.get_decoder().layers
    with ExitStack() as stack:
        for layer in layers:
            stack.callback(blocks[layer].register_forward_hook(partial(told, layer)).remove)
        yield


def finished(base: Base, hidden: Tensor) -> Tensor:
    """Hidden states behind some layer as the norm behind the last one leaves them: what `Base.logits` takes (the logit
    lens). Behind the last layer that is what the model itself gives. ValueError where the norm is not known."""
    decoder: Any = base.model.get_decoder()
    found = next((getattr(decoder, name) for name in _NORMS if hasattr(decoder, name)), None)
    if found is None:
        raise ValueError(f"it is not known which norm the model in {base.folder} has behind its last layer")
    normed: Tensor = found(hidden)
    return normed.to(base.model.dtype)
