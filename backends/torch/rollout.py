"""Running a plan: each operation in turn writes to segments, later ones look at them.

One function per kind of work: `activate` (prompt, latents, label) is differentiable and can be recomputed in the
backward pass; `decode` extends the answering agent's segment token by token and carries no gradient.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from masc.backends.torch.align import align
from masc.backends.torch.attention import block_mask
from masc.backends.torch.base import Base, columns
from masc.backends.torch.segments import KeysValues, Past, Segment
from masc.compiler.plan import Sampling


@dataclass(frozen=True)
class Block:
    """Right-padded token ids of a batch: ids long [B, W], real bool [B, W]."""

    ids: Tensor
    real: Tensor


@dataclass(frozen=True)
class Thinking:
    """steps >= 1 latent steps; tau scalar; matrix [d, d] or None (align = norm)."""

    steps: int
    tau: Tensor
    matrix: Tensor | None


@dataclass(frozen=True)
class Activated:
    """A new segment, and hidden states: last [B, 1, d] predicts the first token after prompt and latents, label [B,
    A, d] what follows each label token that was read (A = 0 without a label)."""

    segment: Segment
    last: Tensor
    label: Tensor


def activate(
    base: Base,
    agent: str | None,
    prompt: Block,
    start: Tensor,
    past: Past | None,
    thinking: Thinking | None,
    label: Block | None,
    recompute: bool = False,
) -> Activated:
    """Write one segment under an agent's adapter: prefill the prompt from position `start` [B] on, think, read the
    label.

    recompute: keep no activations and run again in the backward pass. Keys and values go in as plain tensors, since a
    cache object would lose the channel, and the adapter is applied inside what is recomputed: by then another one is
    active.
    """
    layers = () if past is None else past.layers
    flat = tuple(tensor for pair in layers for tensor in pair)
    seen = None if past is None else past.seen

    def body(*tensors: Tensor) -> tuple[Tensor, ...]:
        pairs = tuple(zip(tensors[::2], tensors[1::2], strict=True))
        with base.applying(agent):
            new, last, after = _write(base, prompt, start, pairs, seen, thinking, label)
        return (last, after, *(tensor for pair in new for tensor in pair))

    if recompute and torch.is_grad_enabled():
        out = checkpoint(body, *flat, use_reentrant=False)
    else:
        out = body(*flat)
    last, after, tensors = out[0], out[1], out[2:]
    steps = 0 if thinking is None else thinking.steps
    real = _real(prompt, steps, label)
    new = tuple(zip(tensors[::2], tensors[1::2], strict=True))
    return Activated(Segment(new, real, start, prompt.ids.shape[1], steps), last, after)


def _real(prompt: Block, steps: int, label: Block | None) -> Tensor:
    parts = [prompt.real, prompt.real.new_ones(prompt.real.shape[0], steps)]
    return torch.cat(parts if label is None else [*parts, label.real], dim=1)


def _write(
    base: Base,
    prompt: Block,
    start: Tensor,
    layers: KeysValues,
    seen: Tensor | None,
    thinking: Thinking | None,
    label: Block | None,
) -> tuple[KeysValues, Tensor, Tensor]:
    past = None if seen is None else Past(layers, seen)
    first = 0 if seen is None else seen.shape[2]
    cache = base.cache(past)
    device = prompt.ids.device
    length = prompt.real.sum(1)
    width = prompt.ids.shape[1]
    place = start[:, None] + torch.arange(width, device=device)
    ids, real = prompt.ids, prompt.real
    if label is not None and thinking is None:  # nothing stands between: prompt and label in one pass
        ids, real = torch.cat([ids, label.ids], 1), torch.cat([real, label.real], 1)
        place = torch.cat([place, _after(start + length, label)], 1)
    hidden = base.run(ids, place, block_mask(seen, real), cache)
    last = hidden.gather(1, (length - 1)[:, None, None].expand(-1, 1, hidden.shape[2]))
    if label is not None and thinking is None:
        return columns(cache, first), last, hidden[:, width:]
    valid = real[:, None] if seen is None else torch.cat([seen, real[:, None].expand(-1, seen.shape[1], -1)], 2)
    one = torch.ones(len(ids), 1, dtype=torch.bool, device=device)
    for step in range(0 if thinking is None else thinking.steps):
        assert thinking is not None
        embedding = align(last, thinking.tau, thinking.matrix)
        last = base.run(embedding, (start + length + step)[:, None], block_mask(valid, one), cache)
        valid = torch.cat([valid, valid.new_ones(*valid.shape[:2], 1)], 2)
    after = last[:, :0]
    if label is not None and thinking is not None and label.ids.shape[1] > 0:
        where = _after(start + length + thinking.steps, label)
        after = base.run(label.ids, where, block_mask(valid, label.real), cache)
    return columns(cache, first), last, after


def _after(start: Tensor, label: Block) -> Tensor:
    return start[:, None] + torch.arange(label.ids.shape[1], device=start.device)


@dataclass
class Decoded:
    """What one sample said. ids without the token that ended it. logprob: summed over `scored` tokens (the end
    included), natural log, under the model's own distribution whatever the sampling."""

    ids: list[int]
    logprob: float = 0.0
    scored: int = 0
    done: bool = False
    ended: bool = False
    """It said a token that ends an answer."""


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
    first = 0 if past is None else past.seen.shape[2]
    cache = base.cache(_join(past, segment))
    own = segment.real[:, None]
    valid = own if past is None else torch.cat([past.seen, own.expand(-1, past.seen.shape[1], -1)], 2)
    position = segment.end("all")
    state = [Decoded([]) for _ in seeds]
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    real = segment.real
    while True:
        logits = base.logits(last[:, 0])
        choice = _choose(logits, sampling, generators)
        scores = torch.log_softmax(logits, -1).gather(1, choice[:, None])[:, 0].tolist()
        alive = torch.tensor([not s.done for s in state], device=choice.device)
        for sample, token, score, limit in zip(state, choice.tolist(), scores, limits, strict=True):
            if sample.done:
                continue
            sample.logprob += score
            sample.scored += 1
            if token in base.stop_ids:
                sample.done = sample.ended = True
                continue
            sample.ids.append(token)
            sample.done = len(sample.ids) >= min(sampling.max_tokens, limit)
        if all(sample.done for sample in state) and not read_end:
            yield state, replace(segment, layers=columns(cache, first), real=real)
            return
        # A finished sample goes on reading its own last choice, unseen: the batch stays rectangular.
        with base.applying(agent):
            last = base.run(choice[:, None], position[:, None], block_mask(valid, alive[:, None]), cache)
        position = position + alive
        valid = torch.cat([valid, alive[:, None, None].expand(-1, valid.shape[1], 1)], 2)
        real = torch.cat([real, alive[:, None]], 1)
        yield state, replace(segment, layers=columns(cache, first), real=real)
        if all(sample.done for sample in state):
            return


def _join(past: Past | None, segment: Segment) -> Past:
    """The past and the new segment as one past (as block_mask and the cache want it)."""
    if past is None:
        return Past(segment.layers, segment.real[:, None])
    layers = tuple(
        (torch.cat([pk, sk], 2), torch.cat([pv, sv], 2))
        for (pk, pv), (sk, sv) in zip(past.layers, segment.layers, strict=True)
    )
    own = segment.real[:, None].expand(-1, past.seen.shape[1], -1)
    return Past(layers, torch.cat([past.seen, own], 2))


def _choose(logits: Tensor, sampling: Sampling, generators: Sequence[torch.Generator]) -> Tensor:
    """One token per sample, long [B]; logits [B, V]."""
    if sampling.temperature == 0:
        return logits.argmax(-1)
    # The largest becomes 0 before the division: a temperature near 0 then gives -inf elsewhere, not inf - inf.
    probabilities = torch.softmax((logits - logits.amax(-1, keepdim=True)) / sampling.temperature, -1)
    ranked, order = probabilities.sort(dim=-1, descending=True)
    # Keep the smallest set whose mass reaches top_p: a token stays if the mass before it is still short of that.
    kept = ranked * ((ranked.cumsum(-1) - ranked) < sampling.top_p)
    kept = kept.cpu()
    picks = [torch.multinomial(row, 1, generator=g) for row, g in zip(kept, generators, strict=True)]
    return order.gather(1, torch.stack(picks).to(order.device))[:, 0]
