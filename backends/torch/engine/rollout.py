"""One activation: prompt, latents, label; it is differentiable, and can be computed again in the backward pass. What is
computed: docs/semantics.md, section 6."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint
from transformers import DynamicCache

from masc.backends.torch.engine.recorded import Recordings, recordable, work_of
from masc.backends.torch.engine.script import Activated, Block, Script, Thinking
from masc.backends.torch.model.applying import Aliases, is_still, still, using
from masc.backends.torch.model.attention import Columns, begun
from masc.backends.torch.model.base import Base, columns
from masc.backends.torch.model.growing import growing
from masc.backends.torch.model.joint import joint
from masc.backends.torch.model.recurrent import states_of
from masc.backends.torch.model.repeating import repeated
from masc.backends.torch.model.segments import KeysValues, Past, Segment, States


def activate(
    base: Base,
    agent: str | None,
    script: Script,
    past: Past | None,
    recompute: bool = False,
    aliases: Aliases | None = None,
    applied: AbstractContextManager[None] | None = None,
    recordings: Recordings | None = None,
    beside: Sequence[str] = (),
) -> Activated:
    """Write one segment under an agent's adapter (by way of aliases of its parameters, if there are any): prefill the
    prompt, think, read the label.

    recompute: keep no activations and run again in the backward pass. Keys and values go in as plain tensors, since a
    cache object would lose the channel, and the adapter is applied inside what is recomputed: by then another one is
    active. applied: what it runs under instead of the adapter as it is, where no gradient is wanted. recordings: where
    it is recorded, if it can be. beside: the adapters of other activations, whose rows stand behind its own, as many
    each; then the aliases are of all adapters, and nothing is dropped.
    """
    flat = () if past is None else _flat(past.layers, past.states)
    # Drawn here, once: what is dropped is the same when the body runs again.
    seed = int(torch.randint(1 << 62, (), device="cpu")) if base.drops(agent) else None

    def body(script: Script, seen: Columns | None, aliases: Aliases | None, *tensors: Tensor) -> tuple[Tensor, ...]:
        layers, states = _unflat(tensors, base.caches)
        noise = None if seed is None else torch.Generator(base.device).manual_seed(seed)
        with applied or _applying(base, agent, beside, aliases, noise), still(seed is None):
            written = _write(base, script, None if seen is None else Past(layers, seen, states))
        return written.last, written.after, written.hidden, written.fed, *_flat(written.layers, written.states)

    def plain() -> tuple[Tensor, ...]:
        own = partial(body, script, None if past is None else past.columns, aliases)
        if recompute and torch.is_grad_enabled():
            found: tuple[Tensor, ...] = checkpoint(own, *flat, use_reentrant=False, preserve_rng_state=False)
            return found
        return own(*flat)

    here = recordings is not None and recordings.device in (None, base.device)
    if here and recordings is not None and seed is None and applied is None and recordable(base, script, past):
        every = (agent, *beside)
        named = aliases or {name: own for one in every for name, own in recordings.parameters(base, one).items()}
        out = recordings.run(work_of(body, plain, script, past, flat, named, recompute))
    else:
        out = plain()
    last, after, hidden, fed = out[:4]
    new, states = _unflat(out[4:], base.caches)
    steps = 0 if script.thinking is None else script.thinking.steps
    width = script.prompt.real.shape[1]
    own = (script.start, hidden if script.hidden else None, _gate(script), fed)
    start, kept, gate, fed = repeated(own, script.group)
    segment = Segment(new, _real(script, steps), start, width, steps, kept, gate, states)
    return Activated(segment, last, after, fed)


def _applying(
    base: Base, agent: str | None, beside: Sequence[str], aliases: Aliases | None, noise: torch.Generator | None
) -> AbstractContextManager[None]:
    """Within it, passes run under an adapter, or each adapter's rows under it."""
    if not beside:
        return base.applying(agent, aliases, noise)
    return using(None, projections=joint([base.projections(one, aliases) for one in (agent, *beside)]))


def _flat(layers: KeysValues, states: States) -> tuple[Tensor, ...]:
    return (*(tensor for pair in layers for tensor in pair), *states)


def _unflat(tensors: Sequence[Tensor], count: int) -> tuple[KeysValues, States]:
    """Of so many layers that keep keys and values, and what there is beside them."""
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
    length = prompt.real.sum(1)
    width = prompt.real.shape[1]
    cache = _cache(base, script, before, first + width)
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
            seen = begun(past, real, place, gate, prompt.whole)
    fed = states[:, :0]
    end = start + length
    if thinking is not None:
        with script.named("latents"):
            given = thinking.given
            if given is None and _foreseen(base, thinking):
                given = _ahead(base, thinking, cache, seen, last, end)
            if given is None:
                thoughts, fed, seen = _thought(base, thinking, cache, seen, last, end)
            else:
                fed = given.to(last.device, last.dtype)
                thoughts, seen = _at_once(base, fed, cache, seen, end)
        states, last = torch.cat([states, thoughts], 1), thoughts[:, -1:]
        end = end + thinking.steps
    if script.group > 1:
        whole = repeated(Past(columns(cache, 0), seen, states_of(cache)), script.group)
        cache, seen = base.cache(whole), whole.columns
        last, end = repeated((last, end), script.group)
    after = last[:, :0]
    if label is not None and label.real.shape[1] > 0:
        where = _after(end, label)
        with script.named("label"):
            mask = base.mask(seen, label.real, where, None, label.whole)
            after = base.run(label.inputs, where, mask, cache, label.lengths if script.followed else None)
    return _Written(columns(cache, first), last, after, states, fed, states_of(cache))


def _cache(base: Base, script: Script, before: Past | None, width: int) -> DynamicCache:
    """A cache over what is seen. width: columns of the past and of the prompt."""
    if script.thinking is None or script.change is not None or base.recurrent is not None:
        return base.cache(before)
    label = 0 if script.label is None or script.group > 1 else script.label.real.shape[1]
    return growing(() if before is None else before.layers, width + script.thinking.steps + label)


def _thought(
    base: Base, thinking: Thinking, cache: DynamicCache, seen: Columns, last: Tensor, first: Tensor
) -> tuple[Tensor, Tensor, Columns]:
    """Latent steps, one behind the other: their final hidden states and input embeddings, [B, m, d] each, and what is
    seen by then. last: the hidden state before them, [B, 1, d]; first: the position of the first, [B]."""
    seen, one = seen.asked(), torch.ones(len(first), 1, dtype=torch.bool, device=first.device)
    thoughts, fed = [], []
    for step in range(thinking.steps):
        embedding = thinking.embed(last.detach() if thinking.stop else last)
        where = (first + step)[:, None]
        last = base.run(embedding, where, base.mask(seen, one, where, None, True), cache)
        seen = seen.grow(one, where, None, True)
        thoughts.append(last)
        fed.append(embedding)
    return torch.cat(thoughts, 1), torch.cat(fed, 1), seen


def _foreseen(base: Base, thinking: Thinking) -> bool:
    """Whether what latent steps read can be worked out before, without a gradient: none would pass from one to the
    next, and nothing is dropped by chance."""
    return thinking.stop and torch.is_grad_enabled() and is_still() and base.recurrent is None


def _ahead(base: Base, thinking: Thinking, cache: DynamicCache, seen: Columns, last: Tensor, first: Tensor) -> Tensor:
    """The input embeddings of latent steps, [B, m, d], with no gradient but that of what makes them of hidden states.
    The steps are run without one; then all of them can be read at once."""
    read = [last.detach()]
    if thinking.steps > 1:
        with torch.no_grad():
            aside = growing(columns(cache, 0), seen.place.shape[1] + thinking.steps - 1)
            found, *_ = _thought(base, replace(thinking, steps=thinking.steps - 1), aside, seen, read[0], first)
        read += found.split(1, 1)
    return torch.cat([thinking.embed(one) for one in read], 1)


def _at_once(base: Base, fed: Tensor, cache: DynamicCache, seen: Columns, first: Tensor) -> tuple[Tensor, Columns]:
    """Latent positions whose input embeddings [B, m, d] are known, in one pass: their final hidden states, and what is
    seen by then."""
    real = torch.ones(fed.shape[:2], dtype=torch.bool, device=fed.device)
    where = first[:, None] + torch.arange(fed.shape[1], device=first.device)
    thoughts = base.run(fed, where, base.mask(seen, real, where, None, True), cache)
    return thoughts, seen.grow(real, where, None, True)


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
    seen = begun(past, real, place, gate, prompt.whole)
    one, where = prompt.real[:, :1], (start + length - 1)[:, None]
    last = base.run(_at(prompt.inputs, length - 1), where, base.mask(seen, one, where, None, True), cache)
    own = None if script.gate is None else _at(script.gate, length - 1)
    return last, torch.cat([*states, last], 1), seen.grow(one, where, own, True)


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
