"""FLOPs: which products a turn computes, forward and backward. A product of [n, k] and [k, m] is 2 n k m.

Counted are products alone; norms, activations, rotations and softmaxes are some per cent of them. Masked columns are
computed, as by every kernel that takes a mask.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from masc.compiler.cost import engine
from masc.compiler.cost.anatomy import Anatomy
from masc.compiler.cost.passes import Pass, Written
from masc.compiler.ir.arrival import Arrival
from masc.compiler.language.alignments import ALIGNMENTS


@dataclass(frozen=True)
class Work:
    """FLOPs. backward: those of the backward pass, with what is computed anew in it."""

    forward: float = 0
    backward: float = 0

    def __add__(self, other: Work) -> Work:
        return Work(self.forward + other.forward, self.backward + other.backward)

    def times(self, count: float) -> Work:
        return Work(self.forward * count, self.backward * count)

    @property
    def total(self) -> float:
        return self.forward + self.backward


def total(parts: Iterable[Work]) -> Work:
    return sum(parts, Work())


@dataclass(frozen=True)
class Adapted:
    """Who runs a turn. ranks: of its adapter, by projection; dora: of which kind it is; dropped: it has dropout;
    align: of its latent steps; joined: adapters of projections that read the same input are computed together
    (`model/lora.py`)."""

    anatomy: Anatomy
    ranks: dict[str, int]
    dora: bool = False
    dropped: bool = False
    align: str | None = None
    joined: bool = False


def work_of(who: Adapted, made: Written, links: Mapping[Arrival, int], recompute: bool = False) -> Work:
    """Of one turn in one sample. links: by arrival that has a link, the numbers that its link holds. recompute: an
    activation is computed again in the backward pass."""
    found = total(_pass(who, one, made.past, made.gated) for one in made.passes) + _alignment(who, made)
    found += total(_link(arrival, count, made) for arrival, count in links.items())
    if recompute and made.graph:
        found += Work(0, found.forward)
    return found + _logits(who.anatomy, made)


def _pass(who: Adapted, one: Pass, past: bool, gated: bool) -> Work:
    layers = who.anatomy.layers
    first = _layer(who, one, past, gated, first=True, last=layers == 1)
    last, between = _layer(who, one, past, gated, last=True), _layer(who, one, past, gated)
    found = first + between.times(layers - 2) + last if layers > 1 else first
    return found.times(one.times)


def _layer(who: Adapted, one: Pass, past: bool, gated: bool, first: bool = False, last: bool = False) -> Work:
    """One layer of one pass. In the first layer a gradient stops at input embeddings that nobody made; in the last one
    it comes to keys and values alone, where nobody asks for the final hidden states."""
    ranks, shapes = who.ranks, who.anatomy.projections
    moves = one.inputs if first else bool(one.inputs or past or ranks)
    attention = 4.0 * who.anatomy.queries * one.queries * one.columns
    (*reading, out), widening, down = who.anatomy.attention, who.anatomy.mlp[:-1], who.anatomy.mlp[-1:]
    looks = moves or past or bool(ranks.keys() & set(reading))
    mixed = looks or out in ranks
    read = moves if who.anatomy.parallel else mixed
    fed = read or bool(ranks.keys() & set(widening))
    arrives = {out: looks, **dict.fromkeys(widening, read), **dict.fromkeys(down, fed)}
    reached = reading[1:] or reading if last and not one.final else list(shapes)
    forward, backward = attention, 0.0
    for name, shape in shapes.items():
        rank, size = ranks.get(name, 0), shape[0] * shape[1]
        half = 2.0 * one.queries * rank
        many = engine.side_by_side(who.anatomy, ranks, name) if who.joined else 1
        forward += 2.0 * one.queries * size + half * (shape[0] + many * shape[1])
        forward += (2.0 * rank * shape[0] * sum(shape)) * who.dora
        if one.graph and name in reached:
            further = arrives.get(name, moves)
            backward += 2.0 * one.queries * size * further
            backward += half * ((1 + many) * shape[1] + (1 + further) * shape[0])
        elif one.graph and name == reading[0] and ranks.keys() & set(reading[1:]):  # those of one input go together
            backward += half * (1 + moves) * shape[0]
            if many > 1:  # and so do outputs without a gradient: zeros
                backward += half * many * shape[1] + 2.0 * one.queries * size * moves
    if who.anatomy.experts is not None:
        work = 2.0 * one.queries * who.anatomy.experts.read(who.anatomy.hidden)
        forward += work
        backward += work * (one.graph and read and len(reached) == len(shapes))
    if one.graph and looks and len(reached) == len(shapes):
        alone = gated or who.anatomy.scored
        backward += (engine.GATED_BACKWARD if alone else engine.ATTENTION_BACKWARD) * attention
    return Work(forward, backward)


def _alignment(who: Adapted, made: Written) -> Work:
    """From hidden states to the inputs of latent steps."""
    alignment = None if who.align is None else ALIGNMENTS[who.align]
    if alignment is None or alignment.applies == "nothing":
        return Work()
    wide = who.anatomy.hidden if alignment.applies == "matrix" else 2 * who.anatomy.vocabulary
    forward = 2.0 * made.latents * who.anatomy.hidden * wide
    through = any(one.inputs for one in made.passes) and made.graph
    again = forward * (alignment.trained and bool(who.ranks))
    return Work(forward * (1 + made.unsaid), forward * through + again * made.graph)


def _link(arrival: Arrival, count: int, made: Written) -> Work:
    """Each number of a link is multiplied once for each vector that goes through it. Of what is fused into a prompt all
    of its tokens but the last are counted, though only those that both prompts share go through it."""
    forward = 2.0 * count * made.vectors.get(arrival, made.prompt - 1)
    return Work(forward * (1 + made.unsaid), forward * (1 + arrival.passes) * made.graph)


def _logits(anatomy: Anatomy, made: Written) -> Work:
    """Of the positions that predict a token of the answer. Where there is a loss, what it gives to their hidden states
    is worked out beside it, in the forward pass."""
    once = 2.0 * made.answer * anatomy.hidden * anatomy.vocabulary
    return Work(once if made.unsaid or not made.graph else 2 * once)
