"""`fuse`: a sender's keys and values, projected and gated, are added to those of the receiver's prompt
(docs/semantics.md, section 7.3).

A fuser is float32 (or whatever its parameters are made), over frozen models of any dtype.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from masc.backends.torch.channels.bringing import Bringing, Change, Running
from masc.backends.torch.model.adapters import derive
from masc.backends.torch.model.base import Base
from masc.backends.torch.model.prompts import Prompt, aligned
from masc.backends.torch.model.segments import KeysValues, Segment
from masc.compiler.channels.fuse import Fuse
from masc.compiler.ir.plan import Turn, agent_of


@dataclass(frozen=True)
class Fusion:
    """What comes to a receiver through one fuse edge. sender: its segment; pairs: which of its columns [B, N] goes to
    which column of the receiver's prompt [B, N]; valid: bool [B, N], False where a sample has fewer;
    only: the receiver's layers (inclusive) that are fused (None: all that the fuser has); gate: what is added is
    multiplied by it, [B] or [1] (None: by 1)."""

    fuser: Fuser
    sender: Segment
    base: Base
    columns: Tensor
    targets: Tensor
    valid: Tensor
    only: tuple[int, int] | None = None
    gate: Tensor | None = None


class Fuser(nn.Module):
    """Cache-to-Cache (arXiv 2510.03215): for each pair of layers and each aligned token

        K += gate * sigmoid(w) * MLP([K of the sender; K of the receiver]),   V likewise,

    w (one for each head) a linear function of the same. Keys are taken back to position 0 before, and to the receiver's
    position after. Gates are real numbers that start at 0: an untrained fuser changes nothing, and gets gradient.

    layers: the receiver's that are fused, ascending; layer i is paired with the sender's i - shift.
    """

    def __init__(self, sender: Base, receiver: Base, layers: Sequence[int], width: int) -> None:
        super().__init__()
        self.layers, self.shift = tuple(layers), receiver.layers - sender.layers
        theirs, own = sender.kv_shape, receiver.kv_shape
        self.keys = nn.ModuleList(_Projection(theirs, own, width) for _ in layers)
        self.values = nn.ModuleList(_Projection(theirs, own, width) for _ in layers)

    def forward(
        self, fusion: Fusion, receiver: Base, layer: int, keys: Tensor, values: Tensor, place: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What is added to keys and values [B, H, C, D] of a receiver's layer, whose columns stand at place [B, C]."""
        at, shift, here = self.layers.index(layer), self.shift, keys.device
        theirs = [each.to(place.device) for each in fusion.sender.layers[layer - self.shift]]
        keys, values = keys.to(place.device), values.to(place.device)
        from_, to = fusion.sender.place.gather(1, fusion.columns), place.gather(1, fusion.targets)
        sent = fusion.base.rotate(_pick(theirs[0], fusion.columns), -from_, layer - shift)
        own = receiver.rotate(_pick(keys, fusion.targets), -to, layer)
        new_keys = receiver.rotate(self.keys[at](sent, own, fusion.valid), to, layer)
        new_values = self.values[at](_pick(theirs[1], fusion.columns), _pick(values, fusion.targets), fusion.valid)
        more = _put(keys, fusion.targets, new_keys), _put(values, fusion.targets, new_values)
        return more[0].to(here), more[1].to(here)

    def covers(self, layer: int) -> bool:
        return layer in self.layers


class _Projection(nn.Module):
    """gate * sigmoid(w) * MLP, for the keys or the values of one pair of layers. theirs, own: heads and their width."""

    def __init__(self, theirs: tuple[int, int], own: tuple[int, int], width: int) -> None:
        super().__init__()
        inner = theirs[0] * theirs[1] + own[0] * own[1]
        self.norm = nn.LayerNorm(inner)
        self.inner = nn.Linear(inner, width)
        self.outer = nn.Linear(width, own[0] * own[1])
        self.weigh = nn.Linear(inner, own[0])
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, theirs: Tensor, own: Tensor, valid: Tensor) -> Tensor:
        """[B, H, N, D] of the sender and of the receiver to what the receiver's gain, 0 where not valid [B, N]."""
        batch, heads, count, width = own.shape
        x = torch.cat([_flat(theirs), _flat(own)], -1).to(self.gate.dtype)
        x = self.norm(x)
        new = self.outer(nn.functional.gelu(self.inner(x))).view(batch, count, heads, width)
        new = self.gate * torch.sigmoid(self.weigh(x))[..., None] * new * valid[..., None, None]
        turned: Tensor = new.transpose(1, 2)
        return turned


def _link(fuse: Fuse, sender: Base, receiver: Base, seed: int, name: str) -> Fuser:
    """A fresh fuser, the same on every device, for the receiver's layers that have a counterpart."""
    paired = range(max(0, receiver.layers - sender.layers), receiver.layers)
    layers = [i for i in paired if fuse.layers is None or any(a <= i <= b for a, b in fuse.layers)]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, name))
        made = Fuser(sender, receiver, layers, fuse.width)
    return made.to(receiver.device, receiver.wide)


def fused(receiver: Base, fusions: tuple[Fusion, ...], layers: KeysValues, place: Tensor) -> KeysValues:
    """Keys and values of a receiver's prompt with everything that is fused into them. Each fuser reads them as they
    were without the others, so that the order of edges does not matter. place: long [B, C]."""
    found = []
    for layer, (keys, values) in enumerate(layers):
        new_keys, new_values = keys, values
        for fusion in fusions:
            low, high = fusion.only or (layer, layer)
            if fusion.fuser.covers(layer) and low <= layer <= high:
                more_keys, more_values = fusion.fuser(fusion, receiver, layer, keys, values, place)
                if fusion.gate is not None:
                    open_ = fusion.gate.to(keys.device, keys.dtype).view(-1, 1, 1, 1)
                    more_keys, more_values = more_keys * open_, more_values * open_
                new_keys, new_values = new_keys + more_keys, new_values + more_values
        found.append((new_keys, new_values))
    return tuple(found)


def _flat(tensor: Tensor) -> Tensor:
    """[B, H, N, D] to [B, N, H * D]."""
    return tensor.transpose(1, 2).flatten(2)


def _pick(tensor: Tensor, columns: Tensor) -> Tensor:
    """Columns [B, N] of [B, H, C, D]: [B, H, N, D]."""
    return tensor.gather(2, columns[:, None, :, None].expand(-1, tensor.shape[1], -1, tensor.shape[3]))


def _put(like: Tensor, columns: Tensor, tensor: Tensor) -> Tensor:
    """[B, H, N, D] at columns [B, N] of zeros like [B, H, C, D]."""
    index = columns[:, None, :, None].expand(-1, like.shape[1], -1, like.shape[3])
    return torch.zeros_like(like).scatter_add(2, index, tensor.to(like.dtype))


def _change(running: Running, turn: Turn, prompts: list[Prompt]) -> Change | None:
    """What is fused into an agent's prompt; samples whose prompts share no token get nothing."""
    found = []
    for one in turn.of(Fuse):
        segment, altering = running.segments[one.segment].to(running.base(turn.agent).device), running.altering
        if altering is not None and not altering.crosses(turn, one):
            altering = None
        pairs = [
            [(s, r) for s, r in aligned(own, theirs) if r < len(own.ids) - 1]  # the last token is read after the fusion
            for own, theirs in zip(prompts, running.prompts[one.segment], strict=True)
        ]
        width = max(1, *(len(row) for row in pairs))
        table = torch.zeros(3, len(pairs), width, dtype=torch.long, device="cpu")
        for b, row in enumerate(pairs):
            last = len(running.prompts[one.segment][b].ids) - 1
            for n, (theirs, own) in enumerate(row):
                # Where something was fused into the sender, its last token stands in the last column of its prompt.
                moved = segment.prompt - 1 if theirs == last and running.plan.turn(one.segment).changed else theirs
                table[:, b, n] = torch.tensor([moved, own, 1], device="cpu")
        if one.stop:
            layers = tuple((keys.detach(), values.detach()) for keys, values in segment.layers)
            segment = Segment(layers, segment.real, segment.start, segment.prompt, segment.latents)
        columns, targets, valid = table.to(segment.real.device)
        only = None
        if altering is not None:
            segment, only = altering.segment(segment, one.segment, one.stop), altering.layers
            valid = valid.bool() & segment.real.gather(1, columns)  # what was swapped in may be shorter
        fuser = running.link(turn, one)
        assert isinstance(fuser, Fuser)
        sender = running.base(agent_of(one.segment))
        gate = running.gate(turn, one)
        found.append(Fusion(fuser, segment, sender, columns, targets, valid.bool(), only, gate))
    return partial(fused, running.base(turn.agent), tuple(found)) if found else None


BRINGING = Bringing(change=_change, link=_link)
