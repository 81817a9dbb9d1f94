"""What a declaration is: data about one word of the language, of which everything that names the word is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from masc.compiler.language.values import Reader


@dataclass(frozen=True)
class Note:
    """Something to tell: a diagnostic's code, its message and a hint. `{agent}` in the message is an agent's name."""

    code: str
    message: str
    hint: str


@dataclass(frozen=True)
class Option:
    """What stands in parentheses behind something (`kv(carry = own)`), or an entry of `train`.

    reads    what it accepts
    help     what it decides, in a few words
    default  what counts where it is left out; None: nothing, or what `help` says
    means    the same as `help` where the reference says more, in Markdown; `unset`: what it says instead of a default
    """

    name: str
    reads: Reader
    help: str
    default: Any = None
    means: str = ""
    unset: str = "none"

    @property
    def shown_default(self) -> str:
        """The default as it is written; empty: there is none."""
        if self.default is None:
            return ""
        if isinstance(self.default, bool):
            return str(self.default).lower()
        return self.default if isinstance(self.default, str) else number(self.default)

    @property
    def about(self) -> str:
        """A sentence of what it decides and of what counts where it is left out."""
        word = f"`{self.default}`" if isinstance(self.default, str) else self.shown_default
        return f"{self.help} (default {word})." if word else f"{self.help}."

    @property
    def choices(self) -> str:
        """What it takes, in words."""
        found = [f"`{word}`" for word in self.reads.words] + ([self.reads.takes] if self.reads.takes else [])
        return " or ".join(filter(None, [", ".join(found[:-1]), found[-1]]))


Form = Literal["plan", "graph", "panel", "drawing", "hover", "weights"]
"""Where an adapter is written: a printed plan, the text of a graph, the panel beside a drawing, the drawing, hover, and
what is said of weights that do not fit."""


@dataclass(frozen=True)
class AdapterOption(Option):
    """An option of an adapter. The field of `Lora` that holds it has its name and default.

    In plans, panels and what is said of weights it stands as `name=value`; in the other forms as is said here, with its
    value for `{}`, or not at all. One that is true or false stands as its name where it is true.

    peft       what PEFT's configuration calls it
    weights    trained weights belong to its value: with another one they mean something else
    drawing    its default is left out there, unless `always`
    noun       what an adapter that has it is called, instead of LoRA; `adjective`: what stands before that, in hover
    """

    peft: str = ""
    weights: bool = True
    graph: str = ""
    drawing: str = ""
    always: bool = False
    hover: str = ""
    noun: str = ""
    adjective: str = ""

    @property
    def flag(self) -> bool:
        """Whether it is true or false."""
        return isinstance(self.default, bool)


@dataclass(frozen=True)
class Adapter:
    """What of an agent is trained: `adapt lora(...)`, `adapt none`, `adapt as planner`.

    of      an agent stands behind it
    starts  it can begin with a trained one, `from` a folder
    forms   how it is written: `{options}`, `{start}` (what it begins with), `{noun}` and `{of}` (the agent) are put in
    """

    name: str
    help: str
    options: Mapping[str, AdapterOption]
    of: bool = False
    starts: bool = False
    forms: Mapping[Form, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Load:
    """How the weights of a model are held (`load = nf4`).

    help     in a few words
    bytes    of one weight of a linear projection in a block, with what belongs to it
    dtype    of all numbers; None: the caller's, where some are not quantised
    library  the package that quantises; None: the weights are plain numbers
    """

    name: str
    help: str
    bytes: float
    dtype: str | None = None
    library: str | None = None


@dataclass(frozen=True)
class Aim:
    """What training makes better: `objective grpo(reward = number)`. needs: the options that must be given."""

    name: str
    help: str
    options: Mapping[str, Option]
    needs: tuple[str, ...] = ()

    @property
    def example(self) -> str:
        """As it may be written."""
        given = ", ".join(f"{name} = {self.options[name].reads.words[0]}" for name in self.needs)
        return f"{self.name}({given})" if given else self.name


_Named = TypeVar("_Named", bound="Option | Adapter | Alignment | Load | Aim")


def table(*declared: _Named) -> dict[str, _Named]:
    """Declarations by name, in their order."""
    return {one.name: one for one in declared}


def number(value: float) -> str:
    """A number as people write it: 0.0002 is `2e-4`."""
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        return f"{value:g}"
    mantissa, _, exponent = f"{value:e}".partition("e")
    return f"{float(mantissa):g}e{int(exponent)}"


@dataclass(frozen=True)
class Alignment:
    """How a latent step makes the next input of a last hidden state h.

    help     in a few words that go on from "a hidden state becomes the next input"
    means    the next input, for the reference, in Markdown; `suits`: which models or channels it is for
    trained  an agent that thinks so has a trainable matrix [d, d]
    applies  what h is multiplied with: a matrix [d, d], or the embeddings of the whole vocabulary, twice
    tied     what is told where a model ties its input and output embeddings
    """

    name: str
    help: str
    means: str
    suits: str = ""
    trained: bool = False
    applies: Literal["nothing", "matrix", "vocabulary"] = "nothing"
    tied: Note | None = None

    @property
    def about(self) -> str:
        """A sentence of what it does."""
        return f"A hidden state becomes the next input {self.help}."
