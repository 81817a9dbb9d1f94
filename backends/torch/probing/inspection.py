"""What `inspect.py` finds in a team that answers one row: plain data, which JSON can say (`Inspection.json`), and that
in a few lines for the terminal and for notebooks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

from masc.compiler.ir.graph import Graph
from masc.dsl.render import visible


@dataclass(frozen=True)
class Word:
    """A token near to something. near: its probability, or (of vectors that are fed) the cosine of its embedding and
    the vector."""

    id: int
    text: str
    near: float


@dataclass(frozen=True)
class Token:
    """A position of a prompt. id: None for a vector; whose: whose value it is part of (an input, or the agent that sent
    it), empty where the prompt's author wrote it; kind: the channel that it came through, empty if none."""

    id: int | None
    text: str
    whose: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Depth:
    """A latent position behind one layer (from 0). words: what would be said there, the likeliest first (logit lens);
    entropy: of that, over all words, nats; norm: of the hidden state; drift: 1 - the cosine of the state and that of
    the position before, both as the model's final norm leaves them (0: the same direction, 1: nothing in common)."""

    layer: int
    words: tuple[Word, ...]
    entropy: float
    norm: float
    drift: float


@dataclass(frozen=True)
class Latent:
    """A latent step, from 1. fed: the tokens whose embeddings are nearest to what was fed (cosine); norm: of what was
    fed, where the mean norm of an embedding is 1; depths: behind each layer that was asked for."""

    step: int
    position: int
    norm: float
    fed: tuple[Word, ...]
    depths: tuple[Depth, ...]


@dataclass(frozen=True)
class Spoken:
    """A token of an answer. log_probability: natural log, of the model's own distribution; words: the likeliest there;
    entropy: nats."""

    id: int
    text: str
    log_probability: float
    entropy: float
    words: tuple[Word, ...]


@dataclass(frozen=True)
class Source:
    """Positions that may be attended to. activation: who wrote them; part: `prompt`, `latents`, `answer`, of what came
    into the reader's own prompt `arrived`, and `sink` for what a model lets go to no position; kind: the channel that
    brought them and via: the agents whose edges did, both empty where they are the reader's own; positions: how
    many."""

    activation: str
    part: str
    kind: str = ""
    via: tuple[str, ...] = ()
    positions: int = 0


@dataclass(frozen=True)
class Heat:
    """The attention of some positions. queries: `prompt`, `latents`, or `answer` (the positions that say the answer's
    tokens, from the last before it on); positions: how many; shares: for each layer in `layers`, and each source, the
    mean over heads and positions; each layer's sum to 1."""

    queries: str
    positions: int
    layers: tuple[int, ...]
    shares: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Activation:
    """One activation (`solver#1`) of an agent. start: its first position; prompt: as the model sees it; said, spoken:
    what it says, where it says something; sources, heats: what it attends to."""

    activation: str
    agent: str
    model: str
    start: int
    prompt: tuple[Token, ...]
    latents: tuple[Latent, ...]
    said: str | None
    spoken: tuple[Spoken, ...]
    sources: tuple[Source, ...]
    heats: tuple[Heat, ...]


@dataclass(frozen=True)
class Carried:
    """An edge, cut alone. log_likelihood: of the same answer then, nats; change: by how much more likely it is than
    with the edge (negative: the edge made it likelier)."""

    sender: str
    receiver: str
    kinds: tuple[str, ...]
    log_likelihood: float
    change: float


@dataclass(frozen=True)
class Team:
    """A team that answers. answers: by output; answer, log_likelihood (nats): of the output that was asked about;
    given: the answer was told, not said."""

    answers: Mapping[str, str]
    answer: str
    given: bool
    log_likelihood: float
    activations: tuple[Activation, ...]
    edges: tuple[Carried, ...]


@dataclass(frozen=True)
class Inspection:
    """inputs: what the team was asked; output: whose answer the edges are held against; team: as the graph says;
    text: the same agents, each edge replaced by text (None: left out, or the graph is that)."""

    graph: Graph
    inputs: Mapping[str, str]
    output: str
    team: Team
    text: Team | None

    def json(self) -> dict[str, Any]:
        """All of it but the graph, of which the name, as JSON has it."""
        found = {"inputs": dict(self.inputs), "output": self.output, "team": asdict(self.team)}
        return {"graph": self.graph.name, **found, "text": None if self.text is None else asdict(self.text)}

    def _repr_html_(self) -> str:
        shown = "\n".join(visible(line) for line in text(self).split("\n"))
        return f'<pre style="white-space: pre-wrap">{escape(shown)}</pre>'


def text(found: Inspection) -> str:
    """What was said, the words of latent positions, and what each edge carried."""
    teams = [("", found.team), *([] if found.text is None else [("in text: ", found.text)])]
    return "".join(f"{line}\n" for name, team in teams for line in _lines(name, team))


def _lines(name: str, team: Team) -> Iterator[str]:
    yield f"{name}{team.answer}"
    yield f"  log-likelihood {team.log_likelihood:.3f} nats"
    for one in team.activations:
        for latent in one.latents:
            for depth in latent.depths:
                words = " ".join(f"{word.text!r} {word.near:.2f}" for word in depth.words)
                yield f"  {one.activation} latent {latent.step}, layer {depth.layer}: {words}"
    for edge in team.edges:
        yield f"  {edge.sender} -> {edge.receiver} ({', '.join(edge.kinds)}) cut: {edge.change:+.3f} nats"
