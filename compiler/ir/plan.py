"""The plan level: turns, one behind the other. All that a backend reads.

A turn is one activation of an agent: what it sees, what arrives in its prompt, where it starts, how it thinks, what it
says, what of it is kept and for whom, and whether a gradient comes back to it. All of that is decided here, never while
it runs. The printed form (`plan_text.py`) is stable and parses back to an equal plan.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, TypeVar

from masc.compiler.ir.adapter import Lora
from masc.compiler.ir.arrival import Arrival, Kept
from masc.compiler.ir.model import PLAIN, Loading, Told
from masc.compiler.ir.ranges import Layers
from masc.compiler.language.objectives import SUPERVISED, Grpo


@dataclass(frozen=True)
class Slot:
    """`{name}` in a prompt: the value of an input, or what an agent of that name sends (`Read`, `Splice`)."""

    name: str


Template = tuple["str | Slot", ...]
Gate = tuple[str, str]
"""The gate of the edge by which keys and values are seen: sender and receiver, agents by name. There is one for all
rounds."""
A = TypeVar("A", bound=Arrival)
Mode = Literal["graph", "text"]
"""How agents talk: as the graph says, or every one of them in text."""


@dataclass(frozen=True)
class Sampling:
    """How an agent decodes. `temperature` 0 is greedy; `stop`: strings that end the answer (and are cut off)."""

    max_tokens: int = 128
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class BaseModel:
    name: str
    target: str
    loading: Loading = PLAIN

    @property
    def base(self) -> tuple[str, Loading]:
        """What is in memory once, whatever it is called."""
        return self.target, self.loading


@dataclass(frozen=True)
class PlanAgent:
    """What of an agent does not change from round to round. lora: None: it is frozen; shares: the agent on the same
    model whose adapter it has (None: one of its own), which `lora` then is; variables: what the chat template is told.
    """

    name: str
    model: str
    lora: Lora | None
    system: Template | None
    user: Template
    shares: str | None = None
    variables: Told = ()

    @property
    def adapter(self) -> str | None:
        """What its adapter is called: as the agent whose own it is. None: it has none."""
        return None if self.lora is None else self.shares or self.name

    @property
    def own(self) -> Lora | None:
        """An adapter that no other agent of the plan stands for."""
        return None if self.shares else self.lora


@dataclass(frozen=True)
class View:
    """What a receiver sees of one earlier segment.

    part     "all" of its positions, or only its "latents"
    layers   the layers that see it; None: all layers
    stop     no gradient goes back through this view
    shift    keys are re-rotated by the summed lengths (real positions, per sample) of these segments
    until    the view exists only in the first so many optimiser steps of training, and fades over them (`open`)
    cut      nothing is seen; positions and shifts stay as if it were
    gates    of edges that it came through, in order: attention to it is multiplied by all of them (section 7.5)

    Several views may name one segment. A position is seen in a layer if one that exists at a step shows it there, and a
    gradient goes back through it if one that does not stop shows it there. Of several gates the largest counts.
    """

    segment: str
    part: Literal["all", "latents"] = "all"
    layers: Layers = None
    stop: bool = False
    shift: tuple[str, ...] = ()
    until: int | None = None
    cut: bool = False
    gates: tuple[Gate, ...] = ()


@dataclass(frozen=True)
class TraceOf:
    """`trace(a#1)`: what a receiver sees through an earlier turn: all that this turn sees, and then its segment, each
    in the layers in which both see it. `sights.py` says which views these are.

    layers, stop, until, cut, gates: as of a view, on top of what the turn's own views say. shift: of the turn's segment
    alone.
    """

    segment: str
    layers: Layers = None
    stop: bool = False
    shift: tuple[str, ...] = ()
    until: int | None = None
    cut: bool = False
    gates: tuple[Gate, ...] = ()


@dataclass(frozen=True)
class End:
    """The position after the last of a segment (`part` "latents": after its latent positions), plus the lengths of
    `shift`."""

    segment: str
    part: Literal["all", "latents"] = "all"
    shift: tuple[str, ...] = ()


@dataclass(frozen=True)
class Think:
    """Append `steps` (>= 1) latent positions to the segment. align: of `ALIGNMENTS`, how a step makes its input of the
    last hidden state. stop: no gradient passes from a step to what its input was made of; keys and values of all
    positions carry theirs all the same."""

    steps: int
    align: str
    stop: bool = False


@dataclass(frozen=True)
class Answer:
    """Decode (in training: read the label) and append the tokens to the segment. `output` None: the text goes to other
    agents alone."""

    output: str | None
    sampling: Sampling


@dataclass(frozen=True)
class Keep:
    """What must be kept of a turn, and for which later turns that name it.

    cache    keys and values of all its positions: they are seen. The last token is read, too
    prompt   keys and values of its prompt: they are fused
    hidden   final hidden states of its prompt and latent positions: they are sent
    text     what it said
    length   where it ends: others start there or are moved by it. The last token is read, too
    """

    what: Kept
    to: tuple[str, ...]


@dataclass(frozen=True)
class Turn:
    """One activation of an agent, which writes one segment: its prompt, then its latent positions, then its answer.

    activation  agent and round, `planner#1`; the segment has the same name
    sees        earlier segments, as keys and values to look at
    at          its first position is the largest of these (none: 0)
    arrives     what its prompt holds of others, channel by channel and in the order of the edges
    keeps       what later turns need of it
    gradient    whether one may come back to it: some loss is behind it
    """

    activation: str
    sees: tuple[View | TraceOf, ...] = ()
    at: tuple[End, ...] = ()
    arrives: tuple[Arrival, ...] = ()
    think: Think | None = None
    answer: Answer | None = None
    keeps: tuple[Keep, ...] = ()
    gradient: bool = True

    @property
    def agent(self) -> str:
        return agent_of(self.activation)

    @property
    def said(self) -> str:
        """What a loss calls its answer: the output, else the activation."""
        return (self.answer.output if self.answer else None) or self.activation

    def of(self, kind: type[A]) -> tuple[A, ...]:
        """What arrives of one kind."""
        return tuple(arrival for arrival in self.arrives if isinstance(arrival, kind))

    @property
    def changed(self) -> bool:
        """Whether others change the keys and values of its prompt: its last token is read after that."""
        return any(arrival.aligns for arrival in self.arrives)

    @property
    def grows(self) -> bool:
        """Whether the exact engine writes its keys and values in place, column by column (`model/growing.py`)."""
        return self.think is not None and not self.changed

    def kept(self, *what: Kept) -> bool:
        """Whether somebody needs one of these of it."""
        return any(keep.what in what for keep in self.keeps)

    @property
    def read_to_end(self) -> bool:
        """Whether the last token of its answer is read, too: somebody looks at it or starts behind it."""
        return self.kept("cache", "length")


@dataclass(frozen=True)
class Reach:
    """An agent whose adapter a loss reaches. `layer` None: all of it. A number: of that layer only the key and value
    projections, of the layers before it everything, of later ones nothing (an agent whose prompt is seen but who feeds
    nothing back). -1: the last layer, whichever that is."""

    agent: str
    layer: int | None = None


@dataclass(frozen=True)
class LatentMap:
    """The trainable matrix behind an agent's latent steps, which a loss reaches."""

    agent: str


@dataclass(frozen=True)
class Across:
    """An edge whose trained link or gate a loss reaches. Between two agents there is one of a kind, for all rounds.
    edge: its channel. layers: of a link that is not reached as a whole, the receiver's layers in which it is."""

    edge: str
    sender: str
    receiver: str
    layers: Layers = None


@dataclass(frozen=True)
class Loss:
    """Cross entropy of an answer (an output, or an activation whose text is supervised) against a data column. Agents
    without an adapter are not in `reaches`."""

    output: str
    column: str
    reaches: tuple[Reach | LatentMap | Across, ...]


@dataclass(frozen=True)
class TrainSettings:
    """The `train` block, defaults put in. rate: AdamW's peak; warmup: share of the steps; clip: gradient norm of each
    agent and edge, 0 = off; save_every, eval_every: steps, 0 = only at the end; keep: checkpoints kept; max_length:
    positions of one sample, 0 = the model's; dtype None: the caller decides (bfloat16 from the command, float32 from
    Python); sparsity: how strongly gates are pulled towards closed, 0 = not at all; gate_rate: AdamW's peak for
    gates; objective: what is made better."""

    data: str | None = None
    eval_data: str | None = None
    batch: int = 8
    accumulate: int = 1
    steps: int = 200
    rate: float = 2e-4
    warmup: float = 0.05
    clip: float = 1.0
    weight_decay: float = 0.0
    seed: int = 0
    save_every: int = 50
    keep: int = 2
    eval_every: int = 0
    dtype: Literal["float32", "bfloat16"] | None = None
    max_length: int = 0
    checkpoint: Literal["none", "agent"] = "none"
    sparsity: float = 0.0
    gate_rate: float = 0.2
    objective: Literal["supervised"] | Grpo = SUPERVISED


@dataclass(frozen=True)
class Plan:
    """`turns` in an order in which every segment is written before it is named; `losses`: of outputs and supervised
    texts, in the order of the answers; `columns`: input -> data column, of those that are read under another name."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    models: tuple[BaseModel, ...]
    agents: tuple[PlanAgent, ...]
    turns: tuple[Turn, ...]
    losses: tuple[Loss, ...]
    train: TrainSettings = field(default=TrainSettings(), compare=True)
    columns: tuple[tuple[str, str], ...] = ()

    def agent(self, name: str) -> PlanAgent:
        return self._agents[name]

    def turn(self, activation: str) -> Turn:
        return self._turns[activation]

    @cached_property
    def _agents(self) -> dict[str, PlanAgent]:
        return {agent.name: agent for agent in self.agents}

    @cached_property
    def _turns(self) -> dict[str, Turn]:
        return {turn.activation: turn for turn in self.turns}

    @cached_property
    def answering(self) -> tuple[Turn, ...]:
        """The turns that say something."""
        return tuple(turn for turn in self.turns if turn.answer is not None)

    def unsupervised(self) -> tuple[Turn, ...]:
        """What agents tell each other and no column supervises: training decodes it, so that it decides the weights."""
        columns = {loss.output for loss in self.losses}
        return tuple(turn for turn in self.answering if turn.said not in columns)


def agent_of(activation: str) -> str:
    """`planner#1` -> `planner`."""
    return activation.rpartition("#")[0]
