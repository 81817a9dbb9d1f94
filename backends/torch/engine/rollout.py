"""Running a plan: each operation in turn writes to segments, later ones look at them.

One function per kind of work: `activate` (prompt, latents, label) is differentiable and can be recomputed in the
backward pass; `decode` extends the answering agent's segment token by token and carries no gradient.
What they compute: docs/semantics.md, sections 6 and 12.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import DynamicCache

from masc.backends.torch.channels.bringing import Change
from masc.backends.torch.engine.choosing import Draws, choose, scores, settings
from masc.backends.torch.engine.labels import Label, unlabelled
from masc.backends.torch.engine.recorded import Recordings, Work
from masc.backends.torch.model import adapters
from masc.backends.torch.model.applying import Aliases, still, using
from masc.backends.torch.model.attention import Columns
from masc.backends.torch.model.base import Base, columns, pad
from masc.backends.torch.model.prompts import Prompt
from masc.backends.torch.model.recurrent import Recurrent
from masc.backends.torch.model.repeating import repeated
from masc.backends.torch.model.segments import KeysValues, Past, Segment, States
from masc.compiler.ir.plan import Sampling


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
    return Block(*pad(rows, base.padding, base.device, multiple), tuple(map(len, rows)))


def prompt_block(base: Base, prompts: Sequence[Prompt], vectors: Tensor | None, multiple: int = 1) -> Block:
    """Prompts as one block: ids, or where vectors [B, N, d] stand in them, embeddings."""
    block = padded(base, [prompt.ids for prompt in prompts], multiple)
    if vectors is None:
        return block
    embeddings = base.embed(block.inputs.clamp_min(0))
    wanted = (-1 - block.inputs).clamp_min(0)[..., None].expand(-1, -1, vectors.shape[2])
    sent = vectors.to(embeddings.dtype).gather(1, wanted)
    return replace(block, inputs=torch.where((block.inputs < 0)[..., None], sent, embeddings))


@dataclass(frozen=True)
class Thinking:
    """steps >= 1 latent steps; embed: the last hidden state [B, 1, d] to the next input embedding, the same shape;
    stop: no gradient passes from a step to the one before; given: [B, steps, d], input embeddings instead of those that
    `embed` would make. matrix: the trained map that `embed` goes through; through: `embed` with another one."""

    steps: int
    embed: Callable[[Tensor], Tensor]
    stop: bool
    given: Tensor | None = None
    matrix: Tensor | None = None
    through: Callable[[Tensor | None], Callable[[Tensor], Tensor]] | None = None


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


def activate(
    base: Base,
    agent: str | None,
    script: Script,
    past: Past | None,
    recompute: bool = False,
    aliases: Aliases | None = None,
    applied: AbstractContextManager[None] | None = None,
    recordings: Recordings | None = None,
) -> Activated:
    """Write one segment under an agent's adapter (by way of aliases of its parameters, if there are any): prefill the
    prompt, think, read the label.

    recompute: keep no activations and run again in the backward pass. Keys and values go in as plain tensors, since a
    cache object would lose the channel, and the adapter is applied inside what is recomputed: by then another one is
    active. applied: what it runs under instead of the adapter as it is, where no gradient is wanted. recordings: where
    it is recorded, if it can be.
    """
    flat = () if past is None else _flat(past.layers, past.states)
    # Drawn here, once: what is dropped is the same when the body runs again.
    seed = int(torch.randint(1 << 62, (), device="cpu")) if base.drops(agent) else None

    def body(script: Script, seen: Columns | None, aliases: Aliases | None, *tensors: Tensor) -> tuple[Tensor, ...]:
        layers, states = _unflat(tensors, base.layers)
        noise = None if seed is None else torch.Generator(base.device).manual_seed(seed)
        with applied or base.applying(agent, aliases, noise), still(seed is None):
            written = _write(base, script, None if seen is None else Past(layers, seen, states))
        return written.last, written.after, written.hidden, written.fed, *_flat(written.layers, written.states)

    def plain() -> tuple[Tensor, ...]:
        own = partial(body, script, None if past is None else past.columns, aliases)
        if recompute and torch.is_grad_enabled():
            found: tuple[Tensor, ...] = checkpoint(own, *flat, use_reentrant=False, preserve_rng_state=False)
            return found
        return own(*flat)

    if recordings is not None and seed is None and applied is None and _recordable(base, script, past):
        named = aliases or ({} if agent is None else adapters.parameters(base.model, agent))
        out = recordings.run(_work(body, plain, script, past, flat, named, recompute))
    else:
        out = plain()
    last, after, hidden, fed = out[:4]
    new, states = _unflat(out[4:], base.layers)
    steps = 0 if script.thinking is None else script.thinking.steps
    width = script.prompt.real.shape[1]
    own = (script.start, hidden if script.hidden else None, _gate(script), fed)
    start, kept, gate, fed = repeated(own, script.group)
    segment = Segment(new, _real(script, steps), start, width, steps, kept, gate, states)
    return Activated(segment, last, after, fed)


def _recordable(base: Base, script: Script, past: Past | None) -> bool:
    """Whether nothing but numbers differs from one batch to the next: a gradient is wanted, nobody changes the prompt
    or the latents, and no gates are half open."""
    given = script.thinking is not None and script.thinking.given is not None
    gated = script.gate is not None or (past is not None and past.columns.open is not None)
    simple = base.recurrent is None and not base.sharded and script.change is None and not given and not gated
    return simple and torch.is_grad_enabled()


def _work(
    body: Callable[..., tuple[Tensor, ...]],
    plain: Callable[[], tuple[Tensor, ...]],
    script: Script,
    past: Past | None,
    flat: Sequence[Tensor],
    named: Aliases,
    recompute: bool,
) -> Work:
    """An activation as something to be recorded: all that it reads as tensors. named: the parameters of its adapter."""
    prompt, label, thinking = script.prompt, script.label, script.thinking
    trained = thinking is not None and thinking.matrix is not None
    whole = past is None or bool(past.columns.whole)
    given = [prompt.inputs, prompt.real, script.start]
    given += [] if label is None else [label.inputs, label.real]
    given += [] if past is None else [past.columns.seen, past.columns.place]
    weights = [tensor for _, tensor in named.values()]
    weights += [thinking.matrix] if thinking is not None and thinking.matrix is not None else []
    modules = {name: module for name, (module, _) in named.items()}
    same = prompt.whole, None if label is None else label.whole, whole, script.hidden, script.followed, script.group
    quiet = replace(script, named=unlabelled)

    def recorded(weights: Sequence[Tensor], tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
        rest = iter(tensors)
        own = replace(quiet, prompt=Block(next(rest), next(rest), prompt.lengths), start=next(rest))
        if label is not None:
            own = replace(own, label=Block(next(rest), next(rest), label.lengths))
        if trained and thinking is not None and thinking.through is not None:
            own = replace(own, thinking=replace(thinking, embed=thinking.through(weights[-1])))
        seen = None if past is None else Columns(next(rest), next(rest), whole=whole)
        aliases = {name: (module, weight) for (name, module), weight in zip(modules.items(), weights, strict=False)}
        return body(own, seen, aliases, *rest)

    return Work(script.name, recorded, plain, [*given, *flat], weights, same, recompute)


def _flat(layers: KeysValues, states: States) -> tuple[Tensor, ...]:
    return (*(tensor for pair in layers for tensor in pair), *states)


def _unflat(tensors: Sequence[Tensor], count: int) -> tuple[KeysValues, States]:
    """Of so many layers, and what there is beside them. Models whose layers share caches have fewer, and no states."""
    pairs = tensors[: 2 * count]
    return tuple(zip(pairs[::2], pairs[1::2], strict=True)), tuple(tensors[2 * count :])


def _real(script: Script, steps: int) -> Tensor:
    """Which columns of the segment are real. If others change the prompt, its last token stands in its last column."""
    prompt, label = script.prompt.real, script.label
    if script.change is not None:
        prompt = torch.cat([prompt[:, 1:], prompt[:, :1]], 1)
    own = repeated(torch.cat([prompt, prompt.new_ones(prompt.shape[0], steps)], 1), script.group)
    return own if label is None else torch.cat([own, label.real], 1)


def _gate(script: Script) -> Tensor | None:
    """How far the segment's prompt is open, column by column as in `_real`."""
    if script.gate is None or script.change is None:
        return script.gate
    return torch.cat([script.gate[:, :-1], _at(script.gate, script.prompt.real.sum(1) - 1)], 1)


@dataclass(frozen=True)
class _Written:
    """Keys and values of the new columns; hidden states: the last one, what follows the label's tokens, and those of
    prompt and latents; the input embeddings of the latent positions; what layers keep beside keys and values."""

    layers: KeysValues
    last: Tensor
    after: Tensor
    hidden: Tensor
    fed: Tensor
    states: States = ()


def _write(base: Base, script: Script, before: Past | None) -> _Written:
    prompt, start, thinking, label = script.prompt, script.start, script.thinking, script.label
    past = None if before is None else before.columns
    first = 0 if past is None else past.seen.shape[2]
    cache = base.cache(before)
    length = prompt.real.sum(1)
    width = prompt.real.shape[1]
    place = start[:, None] + torch.arange(width, device=start.device)
    inputs, real, gate = prompt.inputs, prompt.real, script.gate
    together = thinking is None and script.change is None and base.recurrent is None and script.group == 1
    if label is not None and together:  # nothing stands between: all in one pass
        inputs, real = _beside(base, prompt, label), torch.cat([real, label.real], 1)
        place = torch.cat([place, _after(start + length, label)], 1)
        gate = None if gate is None else torch.cat([gate, gate.new_ones(label.real.shape)], 1)
        with script.named("prefill and label"):
            states = base.run(inputs, place, base.mask(past, real, place, gate, prompt.whole and label.whole), cache)
        label_states, prompt_states = states[:, width:], states[:, :width]
        return _Written(columns(cache, first), _at(states, length - 1), label_states, prompt_states, states[:, :0])
    with script.named("prefill"):
        if script.change is not None:
            last, states, seen = _changed(base, script, cache, past, first)
        else:
            mask = base.mask(past, real, place, gate, prompt.whole)
            states = base.run(inputs, place, mask, cache, prompt.lengths)
            last = _at(states, length - 1)
            seen = _begun(past, real, place, gate, prompt.whole)
    thoughts, fed = [states], [states[:, :0]]
    if thinking is not None:
        with script.named("latents"):
            seen, one = seen.asked(), torch.ones(len(start), 1, dtype=torch.bool, device=start.device)
            for step in range(thinking.steps):
                if thinking.given is None:
                    embedding = thinking.embed(last.detach() if thinking.stop else last)
                else:
                    embedding = thinking.given[:, step : step + 1].to(last.device, last.dtype)
                where = (start + length + step)[:, None]
                last = base.run(embedding, where, base.mask(seen, one, where, None, True), cache)
                seen = seen.grow(one, where, None, True)
                thoughts.append(last)
                fed.append(embedding)
    end = start + length + (0 if thinking is None else thinking.steps)
    if script.group > 1:
        whole = repeated(Past(columns(cache, 0), seen, _states(cache)), script.group)
        cache, seen = base.cache(whole), whole.columns
        last, end = repeated((last, end), script.group)
    after = last[:, :0]
    if label is not None and label.real.shape[1] > 0:
        where = _after(end, label)
        with script.named("label"):
            mask = base.mask(seen, label.real, where, None, label.whole)
            after = base.run(label.inputs, where, mask, cache, label.lengths if script.followed else None)
    return _Written(columns(cache, first), last, after, torch.cat(thoughts, 1), torch.cat(fed, 1), _states(cache))


def _states(cache: DynamicCache) -> States:
    return cache.states if isinstance(cache, Recurrent) else ()


def _changed(
    base: Base, script: Script, cache: DynamicCache, past: Columns | None, first: int
) -> tuple[Tensor, Tensor, Columns]:
    """Prefill all of the prompt but its last token, change that, then read the last: it is the first to see the change.

    Returns the last hidden state, those of all columns (the last token's in the last one), and what is seen by now.
    """
    prompt, start = script.prompt, script.start
    length, width = prompt.real.sum(1), prompt.real.shape[1]
    place = start[:, None] + torch.arange(width - 1, device=start.device)
    real = prompt.real[:, 1:]  # one token fewer of each sample
    gate = None if script.gate is None else script.gate[:, : width - 1]
    states: list[Tensor] = []
    if width > 1:
        states.append(
            base.run(prompt.inputs[:, : width - 1], place, base.mask(past, real, place, gate, prompt.whole), cache)
        )
        assert script.change is not None
        new = script.change(columns(cache, first), place)
        stored: Any = cache.layers
        for layer, (keys, values) in zip(stored, new, strict=True):
            layer.keys = torch.cat([layer.keys[:, :, :first], keys], 2)
            layer.values = torch.cat([layer.values[:, :, :first], values], 2)
    seen = _begun(past, real, place, gate, prompt.whole)
    one, where = prompt.real[:, :1], (start + length - 1)[:, None]
    last = base.run(_at(prompt.inputs, length - 1), where, base.mask(seen, one, where, None, True), cache)
    own = None if script.gate is None else _at(script.gate, length - 1)
    return last, torch.cat([*states, last], 1), seen.grow(one, where, own, True)


def _begun(
    past: Columns | None, real: Tensor, place: Tensor, gate: Tensor | None, whole: bool | None = None
) -> Columns:
    """What is seen once the first columns of a segment stand behind its past."""
    if past is None:
        return Columns(real[:, None], place, None if gate is None else gate[:, None], whole)
    return past.grow(real, place, gate, whole)


def _at(tensor: Tensor, column: Tensor) -> Tensor:
    """One column of each sample: [B, W] or [B, W, d] at column [B] to [B, 1] or [B, 1, d]."""
    if tensor.dim() == 2:
        return tensor.gather(1, column[:, None])
    return tensor.gather(1, column[:, None, None].expand(-1, 1, tensor.shape[2]))


def _beside(base: Base, prompt: Block, label: Block) -> Tensor:
    """The inputs of a prompt and a label as one block; the label holds ids, the prompt may hold embeddings."""
    own = base.embed(label.inputs) if prompt.inputs.is_floating_point() else label.inputs
    return torch.cat([prompt.inputs, own], 1)


def _after(start: Tensor, label: Block) -> Tensor:
    return start[:, None] + torch.arange(label.real.shape[1], device=start.device)


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
            yield state, replace(segment, layers=columns(cache, first), real=real, states=_states(cache))
            return
        # A finished sample goes on reading its own last choice, unseen: the batch stays rectangular.
        with using(agent, projections=projections):
            where = position[:, None]
            mask = base.mask(seen, alive[:, None], where)
            last = base.run(choice[:, None], where, mask, cache, reading if read_end else None)
        position = position + alive
        seen = seen.grow(alive[:, None], where)
        real = torch.cat([real, alive[:, None]], 1)
        yield state, replace(segment, layers=columns(cache, first), real=real, states=_states(cache))
        if all(sample.done for sample in state):
            return


def _join(past: Past | None, segment: Segment) -> Past:
    """The past and the new segment as one past (as the mask and the cache want it)."""
    gate = segment.gate
    if gate is not None:
        gate = torch.cat([gate, gate.new_ones(segment.real.shape)[:, segment.prompt :]], 1)
    if past is None:
        return Past(segment.layers, _begun(None, segment.real, segment.place, gate), segment.states)
    layers = tuple(
        (torch.cat([pk, sk], 2), torch.cat([pv, sv], 2))
        for (pk, pv), (sk, sv) in zip(past.layers, segment.layers, strict=True)
    )
    return Past(layers, past.columns.grow(segment.real, segment.place, gate), segment.states)
