"""Every word of the language is declared once, and whatever else names it follows from that."""

from __future__ import annotations

from masc.backends.torch.model.align import EMBEDS
from masc.compiler.language.alignments import ALIGNMENTS


def test_every_alignment_is_computed() -> None:
    assert list(EMBEDS) == list(ALIGNMENTS)
