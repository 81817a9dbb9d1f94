"""What was proven of a model: identities that hold on it, or do not. Data, and the file that it is remembered in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Any

OWN = ("batch", "latents", "present", "differences", "decoding")
"""What must hold for agents to run at all."""
KV = ("chain", *OWN)
"""What must hold for `kv` edges."""
MOVED = (*KV, "moved")
"""What must hold for `merge = stack`."""
FUSED = (*MOVED, "fused")
"""What must hold for edges that change caches."""
MEANS = {
    "chain": "a chain of agents is one plain pass over their prompts",
    "batch": "a batch is its rows one by one",
    "latents": "latent steps are one plain pass over their embeddings",
    "moved": "moved keys are those of a run at the new place",
    "fused": "a batch with stacked and fused caches is its rows one by one",
    "present": "every tensor of every adapter gets a gradient",
    "differences": "gradients are central differences",
    "decoding": "what is decoded is what a plain pass finds most probable",
}
"""The identities by name, in the order in which they are looked at."""


@dataclass(frozen=True)
class Identity:
    """How an identity stands. figure: how far both sides are apart; bound: how far they may be; None: it was not
    looked at, `why` says the reason. A figure beyond all bounds (an error) has `why`, too."""

    name: str
    figure: float | None = None
    bound: float | None = None
    why: str = ""

    @property
    def held(self) -> bool | None:
        """None: it does not apply."""
        if self.bound is None:
            return None
        return self.figure is not None and self.figure <= self.bound


@dataclass(frozen=True)
class Proof:
    """The identities of one model. model_type: of its config.json; dtype: that it ran in; masc, transformers: the
    versions that it was proven with."""

    model_type: str
    dtype: str
    masc: str
    transformers: str
    identities: tuple[Identity, ...]

    def failed(self, names: Sequence[str] = OWN) -> list[Identity]:
        """Those that do not hold."""
        return [one for one in self.identities if one.name in names and one.held is False]

    def holds(self, names: Sequence[str]) -> bool:
        """Whether all of these were looked at, and hold."""
        held = {one.name: one.held for one in self.identities}
        return all(held.get(name) for name in names)

    def passed_over(self, name: str) -> str:
        """Why an identity was not looked at; empty: it was."""
        return next((one.why for one in self.identities if one.name == name and one.held is None), "")

    @staticmethod
    def from_json(body: Any) -> Proof:
        """ValueError, KeyError or TypeError where it is none."""
        identities = tuple(Identity(**each) for each in body["identities"])
        proof = Proof(**{**body, "identities": identities})
        texts = (proof.model_type, proof.dtype, proof.masc, proof.transformers, *(one.name for one in identities))
        numbers = [n for one in identities for n in (one.figure, one.bound) if n is not None]
        if not all(isinstance(text, str) for text in texts) or not all(isinstance(n, int | float) for n in numbers):
            raise TypeError("it is no record of a proof")
        return proof


@cache
def versions() -> tuple[str, str]:
    """Of masc and of transformers, as they are installed; transformers is not imported."""
    return _version("masc-lang"), _version("transformers")


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return "none"
