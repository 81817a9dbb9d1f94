"""An answer in pieces, as they are decoded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from masc.backends.torch.data.values import Row
from masc.backends.torch.engine.fast.pipeline import Pipeline, Source
from masc.backends.torch.engine.fast.rows import Job
from masc.backends.torch.engine.modules import Modules
from masc.backends.torch.engine.stopping import Shown
from masc.backends.torch.engine.walk import Walk
from masc.backends.torch.model import applying
from masc.backends.torch.model.base import Base
from masc.compiler.analysis.decoding import Decoding, Engine
from masc.compiler.ir.plan import Sampling, Turn

Growing = Iterator[tuple[Sequence[int], bool]]
"""The tokens of an answer so far, and whether it is done."""


def stream_of(modules: Modules, row: Row, decoding: Decoding, engine: Engine) -> Iterator[str]:
    """Pieces of the text of the last output of one row."""
    output = modules.plan.outputs[-1]
    last = next(turn for turn in modules.plan.answering if turn.answer is not None and turn.answer.output == output)
    if engine == "exact" or modules.here.patches is not None or not modules.flows:
        growing = _walked(modules, row, decoding, last)
    else:
        source = Source([Job(0, row, 0, decoding=decoding)])
        growing = Pipeline(modules, source, 1, 1).growing(last.said)
    assert last.answer is not None
    pieces = _pieces(modules.base(last.agent), decoding.of(last.answer).sampling, growing)
    while True:
        # A generator's frame must not leave gradients or dropout switched off for its caller between pieces.
        with torch.no_grad(), applying.still():
            piece = next(pieces, None)
        if piece is None:
            return
        yield piece


def _pieces(base: Base, sampling: Sampling, growing: Growing) -> Iterator[str]:
    shown = Shown(sampling)
    for ids, done in growing:
        if piece := shown.piece(base.text(ids), done):
            yield piece


def _walked(modules: Modules, row: Row, decoding: Decoding, last: Turn) -> Growing:
    """The tokens of an answer as the exact engine decodes them."""
    walk = Walk(modules, [row], None, False, None, decoding=decoding)
    for turn in walk.steps():
        if turn is last:
            yield from ((state[0].ids, state[0].done) for state in walk.decode(turn))
            return
        walk.finish(turn)
