"""Decoding token by token behind an activation, as the exact engine does it. No gradient is carried."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch

from masc.backends.torch.engine.choosing import Draws, choose, scores, settings
from masc.backends.torch.engine.script import Activated
from masc.backends.torch.model.applying import using
from masc.backends.torch.model.attention import begun
from masc.backends.torch.model.base import Base, columns
from masc.backends.torch.model.recurrent import states_of
from masc.backends.torch.model.segments import Past, Segment
from masc.compiler.ir.plan import Sampling


@dataclass
class Decoded:
    """What one sample said. ids without the token that ended it. scores: the natural log of each token's probability
    (the end included), under the model's own distribution whatever the sampling."""

    ids: list[int]
    scores: list[float] = field(default_factory=list)
    done: bool = False
    end: int | None = None
    """The token that ended it, if one did."""
    cut: bool = False
    """It ended because there were no more tokens or positions for it."""


def decode(
    base: Base,
    agent: str | None,
    activated: Activated,
    past: Past | None,
    sampling: Sampling,
    seeds: Sequence[int],
    limits: Sequence[int],
    read_end: bool,
) -> Iterator[tuple[list[Decoded], Segment]]:
    """Decode a batch token by token; after each token yields what there is so far and the segment as it stands.

    seeds: one per sample, so that what is sampled does not depend on who shares the batch. limits: tokens left
    before the model's last position, per sample. read_end: a later agent sees this segment, so the last token is
    read too, as a label's is in training. A caller may set `done` of a sample between tokens.
    """
    segment, last = activated.segment, activated.last
    first = 0 if past is None else past.columns.seen.shape[2]
    joined = _join(past, segment)
    cache, seen = base.cache(joined), joined.columns
    position = segment.end("all")
    state = [Decoded([]) for _ in seeds]
    draws = [Draws(seed) for seed in seeds]
    table = settings([sampling] * len(draws), last)
    real = segment.real
    projections = base.projections(agent)
    while True:
        logits = base.logits(last[:, 0])
        drawn = torch.cat([one.next(1) for one in draws]).to(logits.device)
        choice = choose(logits, table, drawn)
        found = zip(choice.tolist(), scores(logits, choice).tolist(), strict=True)
        reading = [int(not s.done) for s in state]
        alive = torch.tensor(reading, dtype=torch.bool, device=choice.device)
        for sample, (token, score), limit in zip(state, found, limits, strict=True):
            if sample.done:
                continue
            sample.scores.append(score)
            if token in base.stop_ids:
                sample.done, sample.end = True, token
                continue
            sample.ids.append(token)
            sample.done = len(sample.ids) >= min(sampling.max_tokens, limit)
        if all(sample.done for sample in state) and not read_end:
            yield state, replace(segment, layers=columns(cache, first), real=real, states=states_of(cache))
            return
        # A finished sample goes on reading its own last choice, unseen: the batch stays rectangular.
        with using(agent, projections=projections):
            where = position[:, None]
            mask = base.mask(seen, alive[:, None], where)
            last = base.run(choice[:, None], where, mask, cache, reading if read_end else None)
        position = position + alive
        seen = seen.grow(alive[:, None], where)
        real = torch.cat([real, alive[:, None]], 1)
        yield state, replace(segment, layers=columns(cache, first), real=real, states=states_of(cache))
        if all(sample.done for sample in state):
            return


def _join(past: Past | None, segment: Segment) -> Past:
    """The past and the new segment as one past (as the mask and the cache want it)."""
    gate = segment.gate
    if gate is not None:
        gate = torch.cat([gate, gate.new_ones(segment.real.shape)[:, segment.prompt :]], 1)
    if past is None:
        return Past(segment.layers, begun(None, segment.real, segment.place, gate), segment.states)
    layers = tuple(
        (torch.cat([pk, sk], 2), torch.cat([pv, sv], 2))
        for (pk, pv), (sk, sv) in zip(past.layers, segment.layers, strict=True)
    )
    return Past(layers, past.columns.grow(segment.real, segment.place, gate), segment.states)
