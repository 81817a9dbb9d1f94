"""What happened while a program ran, turn by turn.

`Program.trace` gives a Trace; `Program.patched` takes one, or single parts of one, and puts them in the place of what
would have been sent. A trace fed back as it is changes nothing, to the bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from masc.backends.torch.engine.outputs import Output
from masc.backends.torch.engine.patches import PARTS, Patches
from masc.backends.torch.engine.walk import Walk
from masc.compiler.ir.plan import Plan
from masc.dsl.diagnostics import did_you_mean


@dataclass(frozen=True)
class TurnTrace:
    """One activation (`planner#1`) of an agent, for B rows. Its segment has C columns, right-padded: P of the prompt, m
    latent ones, then the tokens that it said or, where an answer was given, read.

    prompts     the rendered prompt of each row; where vectors stand in it, `<3 vectors>`
    ids         the prompt's token ids, row by row, without padding; a spliced vector is -1 - its number
    real        bool [B, C], False where padded
    positions   long [B, C], at which positions the columns stand; of padded ones without meaning
    prompt, latent  P and m
    latents     [B, m, d], the input embeddings of the latent steps
    keys, values    by layer [B, H, C, D] (H key/value heads of width D), keys after rotary embedding
    hidden      [B, P + m, d], final hidden states of prompt and latents where somebody is sent them, else None
    texts       what it said (in a teacher-forced pass: the answer it was given), row by row; None: it says nothing
    """

    activation: str
    agent: str
    prompts: tuple[str, ...]
    ids: tuple[tuple[int, ...], ...]
    real: Tensor
    positions: Tensor
    prompt: int
    latent: int
    latents: Tensor
    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    hidden: Tensor | None
    texts: tuple[str, ...] | None

    def detach(self) -> TurnTrace:
        """The same without a gradient graph behind it."""
        return replace(
            self,
            latents=self.latents.detach(),
            keys=tuple(keys.detach() for keys in self.keys),
            values=tuple(values.detach() for values in self.values),
            hidden=None if self.hidden is None else self.hidden.detach(),
        )

    def row(self, index: int) -> TurnTrace:
        """The turn of one row alone (B = 1), without padding."""
        real = self.real[index]
        own = self.prompt + self.latent
        return replace(
            self,
            prompts=self.prompts[index : index + 1],
            ids=self.ids[index : index + 1],
            real=real[real][None],
            positions=self.positions[index][real][None],
            prompt=int(real[: self.prompt].sum()),
            latents=self.latents[index : index + 1],
            keys=tuple(keys[index : index + 1, :, real] for keys in self.keys),
            values=tuple(values[index : index + 1, :, real] for values in self.values),
            hidden=None if self.hidden is None else self.hidden[index : index + 1, real[:own]],
            texts=None if self.texts is None else self.texts[index : index + 1],
        )


@dataclass(frozen=True)
class Trace:
    """turns: by activation, in the order in which they ran. answers: by output what was said, row by row. output: of a
    teacher-forced pass the loss, logits and labels (`Program.forward`), else None."""

    turns: Mapping[str, TurnTrace]
    answers: tuple[Mapping[str, str], ...]
    output: Output | None = None

    def __iter__(self) -> Iterator[str]:
        """The activations, in the order in which they ran."""
        return iter(self.turns)

    def __getitem__(self, activation: str) -> TurnTrace:
        if activation not in self.turns:
            hint = did_you_mean(activation, self.turns) or f"there are {', '.join(self.turns)}"
            raise KeyError(f"there is no activation {activation!r}; {hint}")
        return self.turns[activation]

    def detach(self) -> Trace:
        """The same without a gradient graph behind it, and without `output`."""
        return replace(self, turns={name: turn.detach() for name, turn in self.turns.items()}, output=None)

    def row(self, index: int) -> Trace:
        """The trace of one row alone, without padding."""
        turns = {name: turn.row(index) for name, turn in self.turns.items()}
        return Trace(turns, self.answers[index : index + 1])


def trace_of(walk: Walk, answers: Sequence[Mapping[str, str]], output: Output | None) -> Trace:
    """The trace of a pass that has come to its end."""
    turns = {}
    for name, segment in walk.segments.items():
        prompts = walk.prompts[name]
        said = walk.texts.get(name)
        turns[name] = TurnTrace(
            activation=name,
            agent=name.rpartition("#")[0],
            prompts=tuple(prompt.text for prompt in prompts),
            ids=tuple(prompt.ids for prompt in prompts),
            real=segment.real,
            positions=segment.place,
            prompt=segment.prompt,
            latent=segment.latents,
            latents=walk.activated[name].fed,
            keys=tuple(keys for keys, _ in segment.layers),
            values=tuple(values for _, values in segment.layers),
            hidden=segment.hidden,
            texts=None if said is None else tuple(said),
        )
    return Trace(turns, tuple(answers), output)


def patches_of(plan: Plan, given: Trace | Patches) -> Patches:
    """Patches by activation and part. ValueError where there is no such activation or part."""
    if isinstance(given, Trace):
        return {
            (name, part): getattr(turn, part)
            for name, turn in given.turns.items()
            for part in PARTS
            if getattr(turn, part) is not None
        }
    known = [turn.activation for turn in plan.turns]
    for name, part in given:
        if name not in known:
            hint = did_you_mean(name, known) or f"there are {', '.join(known)}"
            raise ValueError(f"there is no activation {name!r} to patch; {hint}")
        if part not in PARTS:
            raise ValueError(f"{part!r} cannot be patched; what can be is {', '.join(PARTS)}")
    return dict(given)
