"""The plan level: a linear list of operations over named segments. All that a backend reads.

Every decision about what is seen, where it is placed and what a loss reaches is taken here, never at run time. The
printed form (`plan_text.py`) is stable and parses back to an equal plan.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Literal, get_args


@dataclass(frozen=True)
class Slot:
    """`{name}` in a prompt: the value of an input, or what an agent of that name sends (`Read`, `Splice`)."""

    name: str


Template = tuple["str | Slot", ...]
Mode = Literal["graph", "text"]
"""How agents talk: as the graph says, or every one of them in text."""


@dataclass(frozen=True)
class Lora:
    """`targets`: ("all",), ("attention",), ("mlp",) or names of linear projections (`q_proj`, ...)."""

    rank: int = 16
    alpha: float = 32.0
    targets: tuple[str, ...] = ("all",)
    dropout: float = 0.0


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


@dataclass(frozen=True)
class PlanAgent:
    """What of an agent does not change from round to round."""

    name: str
    model: str
    lora: Lora | None
    system: Template | None
    user: Template


@dataclass(frozen=True)
class View:
    """What a receiver sees of one earlier segment.

    part     "all" of its positions, or only its "latents"
    layers   the layers that see it as inclusive ranges, ascending and disjoint; None: all layers
    stop     no gradient goes back through this view
    shift    keys are re-rotated by the summed lengths (real positions, per sample) of these segments
    until    the view exists only in the first so many optimiser steps of training, and fades over them (`open`)

    Several views may name one segment. A position is seen in a layer if one that exists at a step shows it there, and a
    gradient goes back through it if one that does not stop shows it there.
    """

    segment: str
    part: Literal["all", "latents"] = "all"
    layers: tuple[tuple[int, int], ...] | None = None
    stop: bool = False
    shift: tuple[str, ...] = ()
    until: int | None = None


@dataclass(frozen=True)
class End:
    """The position after the last of a segment (`part` "latents": after its latent positions), plus the lengths of
    `shift`."""

    segment: str
    part: Literal["all", "latents"] = "all"
    shift: tuple[str, ...] = ()


@dataclass(frozen=True)
class Read:
    """A receiver's prompt holds, at `{sender}` or before the user's text, what an earlier activation said. cut: nothing
    instead."""

    segment: str
    cut: bool = False


@dataclass(frozen=True)
class Splice:
    """A receiver's prompt holds, at `{sender}` or before the user's text, final hidden states of an earlier segment,
    each brought into the receiver's embedding space by the link of these two agents.

    part   "latents": those of the latent positions; "all": of the prompt's before them, too
    shape  of the link
    stop   no gradient goes back through it; the link is trained all the same
    cut    vectors of zeros instead, so that positions stay
    """

    segment: str
    part: Literal["all", "latents"] = "latents"
    shape: Literal["linear", "mlp"] = "linear"
    stop: bool = False
    cut: bool = False


@dataclass(frozen=True)
class Fuse:
    """An earlier segment's keys and values, projected and gated, are added to those of the receiver's prompt (all but
    its last token) where both hold the value of one placeholder. Layers are aligned from the last.

    layers  of the receiver, ascending and disjoint; None: all that have a counterpart
    width   of the projection's hidden layer
    """

    segment: str
    layers: tuple[tuple[int, int], ...] | None = None
    width: int = 256
    stop: bool = False


@dataclass(frozen=True)
class Prefill:
    """Open a segment: run the agent's prompt. Positions start at the largest of `at` (none: 0)."""

    activation: str
    sees: tuple[View, ...]
    at: tuple[End, ...]
    reads: tuple[Read, ...] = ()
    splices: tuple[Splice, ...] = ()
    fuses: tuple[Fuse, ...] = ()


Align = Literal["norm", "ridge", "linear", "soft"]
"""How a latent step makes an input embedding of the last hidden state."""
ALIGNS: tuple[Align, ...] = get_args(Align)


@dataclass(frozen=True)
class Think:
    """Append `steps` (>= 1) latent positions to the activation's segment. stop: no gradient passes from a step to what
    its input was made of; keys and values of all positions carry theirs all the same."""

    activation: str
    steps: int
    align: Align
    stop: bool = False


@dataclass(frozen=True)
class Answer:
    """Decode (in training: read the label) and append the tokens to the activation's segment. `output` None: the text
    goes to other agents alone."""

    activation: str
    output: str | None
    sampling: Sampling

    @property
    def name(self) -> str:
        """What a loss calls this answer: the output, else the activation."""
        return self.output or self.activation


@dataclass(frozen=True)
class Reach:
    """An agent whose adapter a loss reaches. `layer` None: all of it. A number: of that layer only the key and value
    projections, of the layers before it everything, of later ones nothing (an agent whose prompt is seen but who feeds
    nothing back). -1: the last layer, whichever that is."""

    agent: str
    layer: int | None = None


@dataclass(frozen=True)
class LatentMap:
    """The trainable matrix behind an agent's latent steps (`align = linear`), which a loss reaches."""

    agent: str


@dataclass(frozen=True)
class Across:
    """An edge whose trainable parameters a loss reaches: the link of a hidden edge, the fuser of a fuse edge. Between
    two agents there is one of a kind, for all rounds. layers: of a fuser that is not reached as a whole, the receiver's
    layers whose projections are, as inclusive ranges, ascending and disjoint."""

    edge: Literal["hidden", "fuse"]
    sender: str
    receiver: str
    layers: tuple[tuple[int, int], ...] | None = None


@dataclass(frozen=True)
class Loss:
    """Cross entropy of an answer (an output, or an activation whose text is supervised) against a data column. Agents
    without an adapter are not in `reaches`."""

    output: str
    column: str
    reaches: tuple[Reach | LatentMap | Across, ...]


Operation = Prefill | Think | Answer | Loss


@dataclass(frozen=True)
class TrainSettings:
    """The `train` block, defaults put in. rate: AdamW's peak; warmup: share of the steps; clip: gradient norm of each
    agent and edge, 0 = off; save_every, eval_every: steps, 0 = only at the end; keep: checkpoints kept; max_length:
    positions of one sample, 0 = the model's; dtype None: the caller decides (bfloat16 from the command, float32 from
    Python)."""

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


@dataclass(frozen=True)
class Plan:
    """`operations` in an order in which every segment is written before it is seen."""

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    models: tuple[BaseModel, ...]
    agents: tuple[PlanAgent, ...]
    operations: tuple[Operation, ...]
    train: TrainSettings = field(default=TrainSettings(), compare=True)

    def agent(self, name: str) -> PlanAgent:
        return next(a for a in self.agents if a.name == name)

    def essence(self, decoding: bool = False) -> str:
        """The text of all that decides what trained weights mean: everything but the `train` settings and how answers
        are decoded. decoding: with that, too: then it is all that decides what is said.

        `reaches` is left out as well: it follows from the rest, and from how many layers the model has, which is not
        known before the model is fetched. Of a local model only the folder's name counts, so that a project can be
        moved; that the model is still the same one is what the artifact's content hash is for.
        """
        from masc.compiler.ir.plan_text import print_plan

        def bare(operation: Operation) -> Operation:
            if isinstance(operation, Loss):
                return replace(operation, reaches=())
            if isinstance(operation, Answer) and not decoding:
                return replace(operation, sampling=Sampling())
            return operation

        operations = tuple(map(bare, self.operations))
        models = tuple(
            replace(m, target=m.target.rpartition("/")[2]) if m.target[:1] == "/" else m for m in self.models
        )
        return print_plan(replace(self, models=models, operations=operations, train=TrainSettings()))

    def fingerprint(self, decoding: bool = False) -> str:
        """sha256 of the essence, in hexadecimal."""
        return hashlib.sha256(self.essence(decoding).encode()).hexdigest()

    def unsupervised(self) -> tuple[Answer, ...]:
        """What agents tell each other and no column supervises: training decodes it, so that it decides the weights."""
        columns = {operation.output for operation in self.operations if isinstance(operation, Loss)}
        return tuple(o for o in self.operations if isinstance(o, Answer) and o.name not in columns)


def agent_of(activation: str) -> str:
    """`planner#1` -> `planner`."""
    return activation.rpartition("#")[0]
