"""What an activation writes from, and what it has written then: data alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from masc.backends.torch.channels.bringing import Change
from masc.backends.torch.engine.labels import Label, unlabelled
from masc.backends.torch.model.base import Base
from masc.backends.torch.model.prompts import Prompt
from masc.backends.torch.model.segments import Segment


@dataclass(frozen=True)
class Block:
    """What a batch reads, right-padded: inputs are token ids, long [B, W], or input embeddings [B, W, d]; real: bool
    [B, W]; lengths: how many are real of each sample, which the device need not be asked."""

    inputs: Tensor
    real: Tensor
    lengths: tuple[int, ...]

    @property
    def whole(self) -> bool:
        """Whether nothing is padded."""
        return all(length == self.real.shape[1] for length in self.lengths)


def padded(base: Base, rows: Sequence[Sequence[int]], multiple: int = 1) -> Block:
    """Ids as one block, whose width is a multiple of a number."""
    return Block(*_pad(rows, base.padding, base.device, multiple), tuple(map(len, rows)))


def prompt_block(base: Base, prompts: Sequence[Prompt], vectors: Tensor | None, multiple: int = 1) -> Block:
    """Prompts as one block: ids, or where vectors [B, N, d] stand in them, embeddings."""
    block = padded(base, [prompt.ids for prompt in prompts], multiple)
    if vectors is None:
        return block
    embeddings = base.embed(block.inputs.clamp_min(0))
    wanted = (-1 - block.inputs).clamp_min(0)[..., None].expand(-1, -1, vectors.shape[2])
    sent = vectors.to(embeddings.dtype).gather(1, wanted)
    return replace(block, inputs=torch.where((block.inputs < 0)[..., None], sent, embeddings))


def gate_block(base: Base, prompts: Sequence[Prompt], gates: Tensor | None, multiple: int = 1) -> Tensor | None:
    """How far the columns of prompts are open, [B, W]; gates: of the vectors that stand in them, [B, N]."""
    if gates is None:
        return None
    ids = padded(base, [prompt.ids for prompt in prompts], multiple).inputs
    return torch.where(ids < 0, gates.gather(1, (-1 - ids).clamp_min(0)), 1)


@dataclass(frozen=True)
class Thinking:
    """steps >= 1 latent steps; embed: the last hidden state [B, 1, d] to the next input embedding, the same shape;
    stop: no gradient passes from a step to the one before; given: [B, steps, d], input embeddings instead of those that
    `embed` would make. matrix: the trained map that `embed` goes through; through: `embed` with another one; align: how
    it is made, by name."""

    steps: int
    embed: Callable[[Tensor], Tensor]
    stop: bool
    given: Tensor | None = None
    matrix: Tensor | None = None
    through: Callable[[Tensor | None], Callable[[Tensor], Tensor]] | None = None
    align: str = ""


@dataclass(frozen=True)
class Activated:
    """A new segment, and hidden states: last [B, 1, d] predicts the first token after prompt and latents, label [B,
    A, d] what follows each label token that was read (A = 0 without a label). fed: [B, m, d], the input embeddings of
    the latent positions."""

    segment: Segment
    last: Tensor
    label: Tensor
    fed: Tensor


@dataclass(frozen=True)
class Script:
    """All that one activation writes from: its prompt from position start [B] on, what changes the prompt's keys
    and values, its latent steps, the label that it reads; or several labels to each row (`group`), one after the
    other: what is written is of so many rows then, and all before the labels is read once. hidden: keep the final
    hidden states, somebody is sent them.
    gate: how far the prompt's columns are open to those behind them, [B, W] (None: all are). followed: somebody goes
    on behind the label. named: names kinds of work. name: the activation's.
    """

    prompt: Block
    start: Tensor
    change: Change | None = None
    thinking: Thinking | None = None
    label: Block | None = None
    hidden: bool = False
    gate: Tensor | None = None
    followed: bool = False
    named: Label = unlabelled
    name: str = ""

    @property
    def group(self) -> int:
        return 1 if self.label is None else len(self.label.lengths) // len(self.prompt.lengths)


def _pad(rows: Sequence[Sequence[int]], value: int, device: torch.device, multiple: int = 1) -> tuple[Tensor, Tensor]:
    """Right-pad rows of ids: ids long [B, W] and which are real, bool [B, W]; W is a multiple of a number."""
    width = -(-max(len(row) for row in rows) // multiple) * multiple
    ids = torch.full((len(rows), width), value, dtype=torch.long, device="cpu")
    real = torch.zeros(len(rows), width, dtype=torch.bool, device="cpu")
    for i, row in enumerate(rows):
        ids[i, : len(row)] = torch.tensor(row, dtype=torch.long, device="cpu")
        real[i, : len(row)] = True
    return ids.to(device), real.to(device)
