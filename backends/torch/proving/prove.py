"""A proof: each identity looked at on one model, with its figure and its bound."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch

from masc.backends.torch.build import DTYPES
from masc.backends.torch.engine.torch_defaults import usual_tensors
from masc.backends.torch.model.base import Base
from masc.backends.torch.model.rotation import NEAR
from masc.backends.torch.program import Program
from masc.backends.torch.proving import identities
from masc.backends.torch.proving.plain import narrowed
from masc.compiler.models.proof import MEANS, Identity, Proof, versions
from masc.dsl.diagnostics import MascError, first_line

BOUNDS = {"float64": 1e-4, "float32": 1e-4, "bfloat16": 5e-2}
"""How far logits may be apart by dtype, relative to the largest where that is above 1. In float64, too, most models ask
for float32 in their norms."""
_SLOPES = {True: 1e-5, False: 2e-2}
"""How far a slope may be from the gradient's, in float64 and in float32."""
_MOST_WIDE = 1_000_000_000
"""The most parameters of a model whose finite differences are taken in float64, where it is twice as large."""
_NARROW = 12
"""How many positions layers with a window see in a proof."""


def prove(
    folder: Path, dtype: str = "float32", device: str = "cpu", tell: Callable[[Identity], None] | None = None
) -> Proof:
    """Load the model in a folder and look at every identity. What is wrong with the folder itself is for the caller to
    find out (`look_into`); E0530, E0616, E0702 where it cannot be loaded. tell: called with each as it is found."""
    with usual_tensors(), torch.inference_mode(False):
        return proof_of(Base(folder, DTYPES[dtype]).to(device), dtype, tell)


def proof_of(base: Base, dtype: str, tell: Callable[[Identity], None] | None = None) -> Proof:
    """The proof of a model that is loaded."""
    found = []
    for identity in look(base, dtype):
        found.append(identity)
        if tell is not None:
            tell(identity)
    return Proof(str(base.config.model_type), dtype, *versions(), tuple(found))


def look(base: Base, dtype: str) -> Iterator[Identity]:
    """The identities of a model that is loaded, in the order of `MEANS`."""
    instead = base.recurrent
    try:
        # A recurrent model has two ways: into the prompt, which goes into its states, and from state to state.
        program = identities.adapted(base, *(("kv", "kv") if instead is None else ("hidden", "kv")))
    except Exception as error:  # whatever PEFT or the model's modules have against it
        yield Identity("batch", None, BOUNDS[dtype], _said(error))
        return
    ways = _ways(base, program, dtype)
    for name in MEANS:
        if instead is not None and name in ("moved", "fused"):
            yield Identity(name, why=instead)
        elif name == "differences" and dtype == "bfloat16":
            yield Identity(name, why="bfloat16 is too coarse for finite differences")
        else:
            figure, bound = ways[name]
            yield _tried(name, figure, bound)


def _ways(base: Base, program: Program, dtype: str) -> dict[str, tuple[Callable[[], float], float]]:
    """By name of an identity, how it is looked at, and its bound."""
    bound = BOUNDS[dtype]
    wide = dtype != "bfloat16" and sum(p.numel() for p in base.model.parameters()) <= _MOST_WIDE

    def narrow(figure: Callable[[], float]) -> Callable[[], float]:
        def looked() -> float:
            with narrowed(base, _NARROW):
                return figure()

        return looked

    return {
        "chain": (narrow(partial(identities.chain, base)), bound),
        "batch": (narrow(partial(identities.batch, program)), bound),
        "latents": (narrow(partial(identities.latents, base)), bound),
        "moved": (partial(identities.moved, base), NEAR if dtype == "bfloat16" else bound),
        "fused": (narrow(partial(identities.fused, base)), bound),
        "present": (lambda: float(len(identities.without(program))), 0.0),
        "differences": (partial(identities.differences, program, wide), _SLOPES[wide]),
        "decoding": (narrow(partial(identities.decoding, base)), bound),
    }


def _tried(name: str, figure: Callable[[], float], bound: float) -> Identity:
    """An identity; one that cannot be computed does not hold, and says why."""
    try:
        return Identity(name, figure(), bound)
    except Exception as error:  # whatever a model does with what it is given
        return Identity(name, None, bound, _said(error))


def _said(error: Exception) -> str:
    return (
        error.diagnostics[0].message if isinstance(error, MascError) else f"{type(error).__name__}: {first_line(error)}"
    )
