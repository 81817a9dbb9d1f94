"""What comes to an agent otherwise than as keys and values to look at: text, vectors in its prompt, fused caches
(docs/semantics.md, section 7)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from masc.backends.torch.channels.links import Fuser, Fusion
from masc.backends.torch.engine.segments import Segment
from masc.backends.torch.model.prompts import Content, Prompt, Vectors, aligned, value
from masc.compiler.ir.plan import Slot, Splice, Turn, agent_of

if TYPE_CHECKING:
    from masc.backends.torch.engine.walk import Walk


def arriving(walk: Walk, turn: Turn) -> tuple[list[dict[str, Content]], Tensor | None]:
    """What fills an agent's placeholders, for each row, and the vectors [B, N, d] that are spliced into its prompt
    (None: there are none). While only lengths are measured there are none either."""
    plan, probe = walk.plan, walk.probe
    spec = plan.agent(turn.agent)
    inputs = [p.name for p in (*(spec.system or ()), *spec.user) if isinstance(p, Slot) and p.name in plan.inputs]
    contents: list[dict[str, Content]] = [
        {name: value(row, name, i) for name in inputs} for row, i in zip(walk.rows, walk.indices, strict=True)
    ]
    for read in turn.reads:
        name = agent_of(read.segment)
        texts = walk.texts[read.segment]
        if probe is not None and probe.kind == "swap" and probe.crosses(turn, read):
            texts = [texts[i] for i in probe.other(len(texts), walk.program.device).tolist()]
        for b, content in enumerate(contents):
            said = "" if read.cut else texts[b]
            before = content.get(name)
            content[name] = f"{before}\n\n{said}" if isinstance(before, str) and before else said
    vectors: list[Tensor] = []
    first = 0
    for splice in turn.splices:
        segment = walk.segments[splice.segment]
        real = sent(segment, splice)
        probed = probe is not None and probe.crosses(turn, splice)
        counts = real.sum(1)
        if probe is not None and probed and probe.kind == "swap":
            counts = counts[probe.other(len(counts), counts.device)]
        for b, content in enumerate(contents):
            content[_free(agent_of(splice.segment), content)] = Vectors(first, int(counts[b]))
        first += real.shape[1]
        if segment.hidden is not None:
            linked = _linked(walk, turn, splice, segment, real)
            vectors.append(
                probe.vectors(linked, splice.segment, splice.stop) if probe is not None and probed else linked
            )
    return contents, torch.cat(vectors, 1) if vectors else None


def _free(name: str, content: dict[str, Content]) -> str:
    """A sender of words and of vectors has one placeholder: it holds the words, the vectors stand before the text."""
    return f"{name}*" if name in content else name


def sent(segment: Segment, splice: Splice) -> Tensor:
    """Which columns of a segment's prompt and latents are sent, bool [B, N]."""
    first = segment.prompt if splice.part == "latents" else 0
    return segment.real[:, first : segment.prompt + segment.latents]


def _linked(walk: Walk, turn: Turn, splice: Splice, segment: Segment, real: Tensor) -> Tensor:
    """The vectors of one splice, [B, N, d of the receiver], those of each sample first in its row."""
    program = walk.program
    assert segment.hidden is not None
    hidden = segment.hidden[:, -real.shape[1] :]
    # Real columns first: padding stands between a prompt and its latents.
    order = torch.argsort(~real, dim=1, stable=True)
    hidden = hidden.gather(1, order[..., None].expand(-1, -1, hidden.shape[2]))
    if splice.stop:
        hidden = hidden.detach()
    vectors = program.hidden_link(agent_of(splice.segment), turn.agent)(hidden)
    return torch.zeros_like(vectors) if splice.cut else vectors


def fusions_of(walk: Walk, turn: Turn, prompts: list[Prompt]) -> tuple[Fusion, ...]:
    """What is fused into an agent's prompt; samples whose prompts share no token get nothing."""
    found = []
    for one in turn.fuses:
        sender, receiver = agent_of(one.segment), turn.agent
        segment = walk.segments[one.segment]
        probe = walk.probe if walk.probe is not None and walk.probe.crosses(turn, one) else None
        pairs = [
            [(s, r) for s, r in aligned(own, theirs) if r < len(own.ids) - 1]  # the last token is read after the fusion
            for own, theirs in zip(prompts, walk.prompts[one.segment], strict=True)
        ]
        width = max(1, *(len(row) for row in pairs))
        table = torch.zeros(3, len(pairs), width, dtype=torch.long, device="cpu")
        for b, row in enumerate(pairs):
            last = len(walk.prompts[one.segment][b].ids) - 1
            for n, (theirs, own) in enumerate(row):
                # Where something was fused into the sender, its last token stands in the last column of its prompt.
                moved = segment.prompt - 1 if theirs == last and walk.plan.turn(one.segment).fuses else theirs
                table[:, b, n] = torch.tensor([moved, own, 1], device="cpu")
        if one.stop:
            layers = tuple((keys.detach(), values.detach()) for keys, values in segment.layers)
            segment = Segment(layers, segment.real, segment.start, segment.prompt, segment.latents)
        columns, targets, valid = table.to(segment.real.device)
        only = None
        if probe is not None:
            segment, only = probe.segment(segment, one.segment, one.stop), probe.layers
            valid = valid.bool() & segment.real.gather(1, columns)  # what was swapped in may be shorter
        fuser: Fuser = walk.program.fuser(sender, receiver)
        found.append(Fusion(fuser, segment, walk.program.base(sender), columns, targets, valid.bool(), only))
    return tuple(found)
