"""Trainable links between two models: final hidden states to embeddings (`hidden`), caches to caches (`fuse`). Their
formulas: docs/semantics.md, sections 7.2 and 7.3.

All of them are float32 (or whatever their parameters are made), over frozen models of any dtype.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from masc.backends.torch.engine.segments import KeysValues, Segment
from masc.backends.torch.model.adapters import derive
from masc.backends.torch.model.align import START, align
from masc.backends.torch.model.base import Base


class Linear(nn.Module):
    """e = tau * hW / |hW|: hidden states [B, N, d of the sender] to embeddings [B, N, d of the receiver].

    tau: the mean norm of the receiver's embeddings, so that an untrained link's outputs have it.
    """

    tau: Tensor

    def __init__(self, weight: Tensor, tau: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight.clone())
        self.register_buffer("tau", tau.clone(), persistent=False)

    def forward(self, hidden: Tensor) -> Tensor:
        return align(hidden.to(self.weight.dtype), self.tau, self.weight)


class Mlp(nn.Module):
    """The link of RecursiveMAS (arXiv 2604.25917): LayerNorm, two linear layers with GELU between them beside a linear
    skip, LayerNorm. [B, N, d of the sender] to [B, N, d of the receiver].

    The last norm's weight starts at tau / sqrt(d), so that an untrained link's outputs have the norm tau.
    """

    def __init__(self, weight: Tensor, tau: Tensor) -> None:
        super().__init__()
        sender, receiver = weight.shape
        self.before = nn.LayerNorm(sender)
        self.inner = nn.Linear(sender, receiver)
        self.outer = nn.Linear(receiver, receiver)
        self.skip = nn.Linear(sender, receiver, bias=False)
        self.after = nn.LayerNorm(receiver)
        with torch.no_grad():
            scale = weight.norm() / receiver**0.5  # so that the skip's outputs are of about unit size
            self.skip.weight.copy_(weight.T / scale.clamp_min(1e-12))
            self.after.weight.fill_(float(tau) / receiver**0.5)

    def forward(self, hidden: Tensor) -> Tensor:
        x = self.before(hidden.to(self.skip.weight.dtype))
        out: Tensor = self.after(self.outer(nn.functional.gelu(self.inner(x))) + self.skip(x))
        return out


def hidden_link(shape: str, sender: Base, receiver: Base, seed: int, name: str) -> Linear | Mlp:
    """A fresh link of a shape ("linear" or "mlp"), the same on every device."""
    weight = between(sender, receiver, derive(seed, name)).to(_wide(receiver))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, name))
        link = (Linear if shape == "linear" else Mlp)(weight.cpu(), receiver.tau.to(_wide(receiver)).cpu())
    return link.to(receiver.device)


@torch.no_grad()
def between(sender: Base, receiver: Base, seed: int) -> Tensor:
    """Where a link starts: the map from the sender's output embeddings to the receiver's input embeddings of the
    tokens that both vocabularies hold, float32 [d of the sender, d of the receiver].

    On one model this is where the trained matrix behind latent steps starts, too. Models without a common token get a
    random map.
    """
    if sender is receiver:
        return sender.fitted(START)
    known = {_plain(token): i for token, i in receiver.tokenizer.get_vocab().items()}
    table = receiver.table()
    output = sender.model.get_output_embeddings().weight
    own = sender.tokenizer.get_vocab().items()
    pairs = [(i, known[_plain(token)]) for token, i in own if _plain(token) in known]
    pairs = sorted((i, j) for i, j in pairs if i < output.shape[0] and j < table.shape[0])
    if not pairs:
        generator = torch.Generator().manual_seed(seed)
        size = output.shape[1], table.shape[1]
        return torch.randn(size, generator=generator, dtype=torch.float32, device="cpu").to(table.device)
    rows, columns = (torch.tensor(side, device=table.device) for side in zip(*pairs, strict=True))
    return START(output[rows], table[columns])


def _plain(token: str) -> str:
    """A token as it is spelt, whichever way its tokenizer marks a blank before it."""
    return token.replace("\u0120", " ").replace("\u2581", " ")


@dataclass(frozen=True)
class Fusion:
    """What comes to a receiver through one fuse edge. sender: its segment; pairs: which of its columns [B, N] goes to
    which column of the receiver's prompt [B, N]; valid: bool [B, N], False where a sample has fewer;
    only: the receiver's layers (inclusive) that are fused (None: all that the fuser has)."""

    fuser: Fuser
    sender: Segment
    base: Base
    columns: Tensor
    targets: Tensor
    valid: Tensor
    only: tuple[int, int] | None = None


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
        at = self.layers.index(layer)
        theirs, shift = fusion.sender.layers[layer - self.shift], self.shift
        from_, to = fusion.sender.place.gather(1, fusion.columns), place.gather(1, fusion.targets)
        sent = fusion.base.rotate(_pick(theirs[0], fusion.columns), -from_, layer - shift)
        own = receiver.rotate(_pick(keys, fusion.targets), -to, layer)
        new_keys = receiver.rotate(self.keys[at](sent, own, fusion.valid), to, layer)
        new_values = self.values[at](_pick(theirs[1], fusion.columns), _pick(values, fusion.targets), fusion.valid)
        return _put(keys, fusion.targets, new_keys), _put(values, fusion.targets, new_values)

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


def fuser(sender: Base, receiver: Base, layers: Sequence[int], width: int, seed: int, name: str) -> Fuser:
    """A fresh fuser, the same on every device. layers: of the receiver, each with a counterpart in the sender."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, name))
        made = Fuser(sender, receiver, layers, width)
    return made.to(receiver.device, _wide(receiver))


def fuse(receiver: Base, layers: KeysValues, place: Tensor, fusions: tuple[Fusion, ...]) -> KeysValues:
    """Keys and values of a receiver's prompt with everything that is fused into them. Each fuser reads them as they
    were without the others, so that the order of edges does not matter. place: long [B, C]."""
    found = []
    for layer, (keys, values) in enumerate(layers):
        new_keys, new_values = keys, values
        for fusion in fusions:
            low, high = fusion.only or (layer, layer)
            if fusion.fuser.covers(layer) and low <= layer <= high:
                more_keys, more_values = fusion.fuser(fusion, receiver, layer, keys, values, place)
                new_keys, new_values = new_keys + more_keys, new_values + more_values
        found.append((new_keys, new_values))
    return tuple(found)


def _wide(base: Base) -> torch.dtype:
    return torch.promote_types(next(base.model.parameters()).dtype, torch.float32)


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
