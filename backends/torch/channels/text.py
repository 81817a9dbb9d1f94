"""`text`: what the sender said, in words."""

from __future__ import annotations

from masc.backends.torch.channels.bringing import Bringing, Contents, Filled, Running
from masc.compiler.channels.text import Read
from masc.compiler.ir.plan import Turn, agent_of


def _fill(running: Running, turn: Turn, read: Read, contents: Contents, first: int) -> Filled:
    name, altering = agent_of(read.segment), running.altering
    texts = running.texts[read.segment]
    if altering is not None and altering.kind == "swap" and altering.crosses(turn, read):
        texts = [texts[i] for i in altering.other(len(texts), running.device).tolist()]
    for b, content in enumerate(contents):
        said = "" if read.cut else texts[b]
        before = content.get(name)
        content[name] = f"{before}\n\n{said}" if isinstance(before, str) and before else said
    return Filled(read)


BRINGING = Bringing(fill=_fill)
