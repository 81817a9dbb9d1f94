"""What a declaration is: data about one word of the language, of which everything that names the word is made."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Note:
    """Something to tell: a diagnostic's code, its message and a hint. `{agent}` in the message is an agent's name."""

    code: str
    message: str
    hint: str


@dataclass(frozen=True)
class Alignment:
    """How a latent step makes the next input of a last hidden state h.

    help     what it does with h, in a few words that go on from "the next input is h ..."
    means    the same for the reference, in Markdown; `suits`: which models or channels it is for
    trained  an agent that thinks so has a trainable matrix [d, d]
    tied     what is told where a model ties its input and output embeddings
    """

    name: str
    help: str
    means: str
    suits: str = ""
    trained: bool = False
    tied: Note | None = None
