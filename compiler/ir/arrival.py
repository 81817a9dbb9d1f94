"""What comes to an agent's prompt from an earlier turn, and how far a gradient goes back through it.

Each channel that brings something into a prompt has a class of its own beside its declaration (`compiler/channels`);
all that is done with plans asks these classes and knows no channel by name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

from masc.compiler.ir.lines import Line
from masc.compiler.ir.ranges import Layers, Some, top, union

Kept = Literal["cache", "prompt", "hidden", "text", "length"]
"""What may have to be kept of a turn (see `plan.Keep`)."""
MANY = 1 << 40
"""So many layers has a model of which nobody knows how many."""


def counted(layers: int | None) -> int:
    return MANY if layers is None else layers


@dataclass(frozen=True)
class Arrived:
    """Where a gradient arrives at a turn.

    full    at its final hidden states
    prompt  at keys and values of its prompt (all but the last token) in these layers
    rest    at keys and values of what follows (the last token, latent steps, the answer) in these layers
    sight   at what it sees, in these layers, without going through it (`trace`)
    """

    full: bool = False
    prompt: Some = ()
    rest: Some = ()
    sight: Some = ()

    def __or__(self, other: Arrived) -> Arrived:
        pairs = ((self.prompt, other.prompt), (self.rest, other.rest), (self.sight, other.sight))
        return Arrived(self.full or other.full, *(union(a, b) or () for a, b in pairs))

    @property
    def anywhere(self) -> bool:
        """Whether it arrives at what the turn itself wrote."""
        return bool(self.full or self.prompt or self.rest)

    def below(self, count: int) -> int:
        """How many of its model's layers, from the first, are gone through as a whole."""
        return count if self.full else max(top(self.prompt), top(self.rest), 0)

    def altered(self, count: int) -> Some:
        """The layers in which it matters what is added to the prompt's keys and values: those that are looked at from
        elsewhere, and those that the rest of the turn reads. The prompt itself reads its keys as they were."""
        read = count if self.full else top(self.rest)
        return union(self.prompt, ((0, read - 1),) if read > 0 else ()) or ()


@dataclass(frozen=True)
class Through:
    """What of an arrival a gradient reaches. link: the layers of its trained link (None: all of it; empty: nothing of
    it), out of those that it is for (`paired`; empty: it is not made layer by layer). behind: where the gradient
    arrives at the sender; None: nowhere."""

    link: Layers = ()
    behind: Arrived | None = None
    paired: Some = ()


@dataclass(frozen=True)
class Arrival(ABC):
    """What a turn's prompt holds of one earlier segment.

    Class variables: kind: its channel; word: its line in a printed plan; keeps: what must be kept of the sender; link:
    what its trained part is called, empty where it has none; aligns: prompts of both agents are aligned by the values
    of inputs; holds: it stands in the prompt, and may be all that it holds; asks: what both models must be able to do
    (`ABILITIES` in `compiler/models/facts.py`).
    """

    kind: ClassVar[str]
    word: ClassVar[str]
    keeps: ClassVar[Kept]
    link: ClassVar[str] = ""
    aligns: ClassVar[bool] = False
    holds: ClassVar[bool] = False
    asks: ClassVar[tuple[str, ...]] = ()

    segment: str

    @classmethod
    @abstractmethod
    def parse(cls, line: Line) -> Self:
        """Read what `text` wrote."""

    @property
    @abstractmethod
    def text(self) -> str:
        """How it is written in a plan."""

    @property
    @abstractmethod
    def told(self) -> str:
        """What it is, in words, for the panel beside a drawing."""

    @property
    @abstractmethod
    def seen(self) -> str:
        """The same in a few words of Markdown, for hover."""

    @property
    def latents(self) -> bool:
        """Whether it needs latent positions of the sender."""
        return False

    @property
    def shape(self) -> str:
        """What the size of its trained link depends on beside the models; two agents have one link of a kind."""
        return ""

    @property
    def gated(self) -> bool:
        """Whether its edge has a gate."""
        return False

    @property
    def passes(self) -> bool:
        """Whether a gradient goes back to the sender."""
        return False

    def through(self, at: Arrived, own: int | None, theirs: int | None) -> Through:
        """What a gradient reaches through it that has arrived at the receiver. own, theirs: how many layers the models
        of receiver and sender have; None: nobody knows."""
        return Through()

    def layers_named(self) -> Layers:
        """The receiver's layers that it names; None: none in particular."""
        return None

    def promises(self) -> Iterator[tuple[bool, str]]:
        """What holds of it by itself: whether, and what."""
        yield from ()
