"""What one activation attends to and computes on its way, noted pass by pass while it runs (a batch of one row)."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from masc.backends.torch.channels.arrivals import arriving
from masc.backends.torch.engine.walk import Walk
from masc.backends.torch.model.attention import watching
from masc.backends.torch.model.depths import noting
from masc.backends.torch.model.prompts import Vectors, aligned, prompt_of
from masc.backends.torch.model.segments import by_segment, columns_of
from masc.backends.torch.probing.inspection import Heat, Source, Token
from masc.backends.torch.probing.words import spelt
from masc.compiler.analysis.sights import expanded
from masc.compiler.channels import PLAIN
from masc.compiler.ir.plan import Turn, agent_of

SINK = 1e-4
"""What of a layer's attention falls on no position, from which on it is told: more than rounding."""


@dataclass
class Look:
    """One activation. sources: what may be attended to; owners: by column of the cache, in order, which source it is
    of; columns behind these are the answer's, the last source. prompt, latent: how many columns of its own are that.

    rows: by layer, for each column of its own the share of each source, float32 [Q, S]; states: by layer that was asked
    for, hidden states [1, Q, d]. Both come pass by pass."""

    tokens: tuple[Token, ...]
    sources: tuple[Source, ...]
    owners: tuple[int, ...]
    prompt: int
    latent: int
    rows: dict[int, list[Tensor]] = field(default_factory=dict)
    states: dict[int, list[Tensor]] = field(default_factory=dict)

    def note(self, layer: int, weights: Tensor) -> None:
        mean = weights[0].mean(0).float()  # [Q, K]
        behind = [len(self.sources) - 1] * (mean.shape[1] - len(self.owners))
        onto = torch.tensor([*self.owners, *behind], device=mean.device)[: mean.shape[1]]
        shares = mean.new_zeros(len(mean), len(self.sources)).index_add_(1, onto, mean)
        self.rows.setdefault(layer, []).append(shares.cpu())

    def keep(self, layer: int, states: Tensor) -> None:
        self.states.setdefault(layer, []).append(states)

    def thoughts(self, layer: int) -> Tensor:
        """Hidden states [m + 1, d] behind a layer: of the position before the latent ones, and of these."""
        return torch.cat(self.states[layer], 1)[0, self.prompt - 1 : self.prompt + self.latent]

    def seen(self, answer: int) -> tuple[tuple[Source, ...], tuple[Heat, ...]]:
        """What there is to attend to, and the shares of each. answer: how many tokens are said."""
        layers = tuple(sorted(self.rows))
        if not layers:
            return self.sources, ()
        rows = torch.stack([torch.cat(self.rows[layer]) for layer in layers])  # [L, Q, S]
        read = max(0, rows.shape[1] - self.prompt - self.latent)
        sources = (*self.sources[:-1], replace(self.sources[-1], positions=read))
        lost = 1 - rows.sum(2, keepdim=True)
        if float(lost.max()) > SINK:
            rows, sources = torch.cat([rows, lost], 2), (*sources, Source("", "sink"))
        kept = [i for i, source in enumerate(sources) if source.positions or source.part == "sink"]
        own = self.prompt + self.latent
        parts = {"prompt": (0, self.prompt), "latents": (self.prompt, own), "answer": (own - 1, own - 1 + answer)}
        heats = [
            Heat(name, last - first, layers, tuple(map(tuple, rows[:, first:last, kept].mean(1).tolist())))
            for name, (first, last) in parts.items()
            if last > first and (name != "answer" or answer)
        ]
        return tuple(sources[i] for i in kept), tuple(heats)


@dataclass
class Looks:
    """What all activations of a pass do. layers: behind which hidden states are kept, by model."""

    layers: dict[str, tuple[int, ...]]
    found: dict[str, Look] = field(default_factory=dict)

    @contextmanager
    def at(self, walk: Walk, turn: Turn) -> Iterator[None]:
        """Within it one turn's activation is looked at (`Here.looked`)."""
        look = self.found[turn.activation] = _look(walk, turn)
        layers = self.layers[walk.plan.agent(turn.agent).model] if look.latent else ()
        with watching(look), noting(walk.base(turn.agent), layers, look.keep):
            yield


def _look(walk: Walk, turn: Turn) -> Look:
    """What is known before an activation runs: its prompt, and whose each column is that it may attend to."""
    before = [*_before(walk, turn)]
    tokens, arrived = _prompt(walk, turn)
    own = [Source(turn.activation, part) for part in ("prompt", "latents", "answer")]
    latent = 0 if turn.think is None else turn.think.steps
    columns = [source for source, count in before for _ in range(count)]
    columns += [own[0] if source is None else source for source in arrived] + [own[1]] * latent
    sources = list(dict.fromkeys([*columns, *own]))
    sources.remove(own[2])
    sources.append(own[2])
    place = {source: i for i, source in enumerate(sources)}
    owners = tuple(place[source] for source in columns)
    counted = tuple(replace(source, positions=owners.count(i)) for i, source in enumerate(sources))
    return Look(tokens, counted, owners, len(tokens), latent)


def _before(walk: Walk, turn: Turn) -> Iterator[tuple[Source, int]]:
    """The columns that it sees of others, in the order of the cache (`segments.look`): whose, and how many."""
    brought: dict[str, dict[str, None]] = {}
    for entry in turn.sees:
        for view in expanded(entry, walk.sights):
            brought.setdefault(view.segment, {})[agent_of(entry.segment)] = None
    for name, views in by_segment(walk.sights[turn.activation], walk.opening, walk.open).items():
        segment = walk.segments[name]
        shown = columns_of(views, segment)
        ends = (0, segment.prompt, segment.prompt + segment.latents, segment.real.shape[1])
        for part, first, last in zip(("prompt", "latents", "answer"), ends[:-1], ends[1:], strict=True):
            count = min(last, shown.stop) - max(first, shown.start)
            if count > 0:
                yield Source(name, part, PLAIN.kind, tuple(brought[name])), count


def _prompt(walk: Walk, turn: Turn) -> tuple[tuple[Token, ...], list[Source | None]]:
    """The tokens of its prompt, and by token what has arrived there; None: nothing has."""
    base, (prompt,) = walk.base(turn.agent), walk.prompts[turn.activation]
    came = arriving(walk, turn)
    (contents,) = came.contents
    words = frozenset(name for name, content in contents.items() if not isinstance(content, Vectors))
    spans = prompt_of(base, walk.plan.agent(turn.agent), contents, words).spans
    whose = {column: name for name, held in spans.items() for column, _ in held}
    sent = [part.arrival for part in came.parts for _ in range(part.width)]
    told = {agent_of(part.arrival.segment): part.arrival for part in came.parts if not part.width}
    fused = {column: one for one in turn.arrives if one.aligns for column in _fused(walk, turn, one.segment)}
    tokens, sources = [], []
    for column, (number, text) in enumerate(zip(prompt.ids, spelt(base, prompt.ids), strict=True)):
        name = whose.get(column, "")
        arrival = sent[-1 - number] if number < 0 else told.get(name) or fused.get(column)
        if number < 0 and arrival is not None:
            tokens.append(Token(None, "", agent_of(arrival.segment), arrival.kind))
        else:
            tokens.append(Token(number, text, name, "" if arrival is None else arrival.kind))
        via = () if arrival is None else (agent_of(arrival.segment),)
        sources.append(None if arrival is None else Source(arrival.segment, "arrived", arrival.kind, via))
    return tuple(tokens), sources


def _fused(walk: Walk, turn: Turn, segment: str) -> Collection[int]:
    """The columns of a prompt that a sender's cache is fused into: all that are aligned but the last."""
    (own,), (theirs,) = walk.prompts[turn.activation], walk.prompts[segment]
    return {column for _, column in aligned(own, theirs) if column < len(own.ids) - 1}


def layers_of(asked: Sequence[int | str], count: int) -> tuple[int, ...]:
    """Layers that were asked for (numbers from 0, `last`), of a model that has so many: those that it has, in
    order."""
    numbers = {count - 1 if layer == "last" else int(layer) for layer in asked}
    return tuple(sorted(layer for layer in numbers if 0 <= layer < count))
