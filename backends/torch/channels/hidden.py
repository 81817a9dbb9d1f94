"""`hidden`: final hidden states through a trained link, as vectors in the receiver's prompt (docs/semantics.md, section
7.2).

A link is float32 (or whatever its parameters are made), over frozen models of any dtype.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from masc.backends.torch.channels.bringing import Bringing, Contents, Filled, Running
from masc.backends.torch.model.adapters import derive
from masc.backends.torch.model.align import START, align
from masc.backends.torch.model.base import Base
from masc.backends.torch.model.prompts import Content, Vectors
from masc.backends.torch.model.segments import Segment
from masc.compiler.channels.hidden import Splice
from masc.compiler.ir.plan import Turn, agent_of


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


def _link(splice: Splice, sender: Base, receiver: Base, seed: int, name: str) -> Linear | Mlp:
    """A fresh link, the same on every device."""
    weight = between(sender, receiver, derive(seed, name)).to(receiver.wide)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, name))
        link = (Linear if splice.made == "linear" else Mlp)(weight.cpu(), receiver.tau.to(receiver.wide).cpu())
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
    return START(output[rows.to(output.device)].to(table.device), table[columns])


def _plain(token: str) -> str:
    """A token as it is spelt, whichever way its tokenizer marks a blank before it."""
    return token.replace("\u0120", " ").replace("\u2581", " ")


def _fill(running: Running, turn: Turn, splice: Splice, contents: Contents, first: int) -> Filled:
    altering = running.altering
    segment = _arrived(running, turn, splice)
    real = _sent(segment, splice)
    counts = real.sum(1)
    probed = altering is not None and altering.crosses(turn, splice)
    if altering is not None and probed and altering.kind == "swap":
        counts = counts[altering.other(len(counts), counts.device)]
    for b, content in enumerate(contents):
        content[_free(agent_of(splice.segment), content)] = Vectors(first, int(counts[b]))
    if segment.hidden is None:
        return Filled(splice, real.shape[1])
    vectors = _vectors(running, turn, splice, segment.hidden[:, -real.shape[1] :], real)
    if altering is not None and probed:
        vectors = altering.vectors(vectors, splice.segment, splice.stop)
    return Filled(splice, real.shape[1], vectors, _gate(running, turn, splice, real))


def _arrived(running: Running, turn: Turn, splice: Splice) -> Segment:
    """What is sent of a segment, where the receiver is computed."""
    segment = replace(running.segments[splice.segment], layers=())
    return segment.to(running.base(turn.agent).device)


def _free(name: str, content: dict[str, Content]) -> str:
    """A sender of words and of vectors has one placeholder: it holds the words, the vectors stand before the text."""
    return f"{name}*" if name in content else name


def _sent(segment: Segment, splice: Splice) -> Tensor:
    """Which columns of a segment's prompt and latents are sent, bool [B, N]."""
    first = segment.prompt if splice.part == "latents" else 0
    return segment.real[:, first : segment.prompt + segment.latents]


def _gate(running: Running, turn: Turn, splice: Splice, real: Tensor) -> Tensor | None:
    """How far the vectors are open, [B, N] in their order: as far as the edge's gate, and as the sender's own columns
    that they are made of."""
    segment = _arrived(running, turn, splice)
    gate = running.gate(turn, splice)
    own: Tensor | None = None
    if splice.part == "all" and segment.gate is not None:
        own = torch.cat([segment.gate, segment.gate.new_ones(len(real), segment.latents)], 1).gather(1, _order(real))
        own = own.detach() if splice.stop or splice.cut else own
    if gate is None:
        return own
    gate = (gate.detach() if splice.cut else gate)[:, None].expand(len(real), real.shape[1])
    return gate if own is None else gate * own


def _order(real: Tensor) -> Tensor:
    """Real columns first, long [B, N]: padding stands between a prompt and its latents."""
    return torch.argsort(~real, dim=1, stable=True)


def _vectors(running: Running, turn: Turn, splice: Splice, hidden: Tensor, real: Tensor) -> Tensor:
    """Hidden states [B, N, d of the sender] as vectors [B, N, d of the receiver], those of each sample first in its
    row."""
    hidden = hidden.gather(1, _order(real)[..., None].expand(-1, -1, hidden.shape[2]))
    if splice.stop:
        hidden = hidden.detach()
    vectors: Tensor = running.link(turn, splice)(hidden)
    return torch.zeros_like(vectors) if splice.cut else vectors


BRINGING = Bringing(fill=_fill, link=_link)
