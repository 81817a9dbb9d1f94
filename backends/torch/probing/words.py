"""Words for what a model computes: tokens as they are shown, and those that are nearest to vectors and scores."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from masc.backends.torch.model.base import TOKENIZING, Base
from masc.backends.torch.probing.inspection import Word

_BLANK = "\u2581"
"""What some vocabularies write for a blank that a word begins with, and their decoders leave out where a text
begins."""


def spelt(base: Base, ids: Sequence[int]) -> list[str]:
    """Each token as a text of its own, control tokens too; one that is no whole character as its vocabulary spells it.
    Vectors (below 0) are empty."""
    known = base.spelt([max(0, number) for number in ids])
    return ["" if number < 0 else _text(base, number, word) for number, word in zip(ids, known, strict=True)]


def _text(base: Base, number: int, spelling: str | None) -> str:
    with TOKENIZING:
        text = str(base.tokenizer.decode([number], skip_special_tokens=False, clean_up_tokenization_spaces=False))
    if spelling is None:  # the model has more rows than its tokenizer has tokens
        return f"<{number}>"
    if "\ufffd" in text or not text:
        return spelling
    return f" {text}" if spelling.startswith(_BLANK) and not text.startswith(" ") else text


def likeliest(base: Base, logits: Tensor, top: int) -> list[tuple[tuple[Word, ...], float]]:
    """Of each row of logits [N, V] the likeliest tokens with their probabilities, and the entropy, nats."""
    logs = logits.float().log_softmax(-1)
    share = logs.exp()
    # A word that cannot be said has a probability of 0 and adds nothing.
    entropy = -(share * logs.masked_fill(share == 0, 0)).sum(-1)
    best = share.topk(min(top, share.shape[1]), -1)
    return list(zip(_words(base, best.indices, best.values), entropy.tolist(), strict=True))


@torch.no_grad()
def nearest(base: Base, vectors: Tensor, top: int) -> list[tuple[Word, ...]]:
    """Of each vector [N, d] the tokens whose input embeddings have the largest cosine with it. Part by part: of a large
    model the whole table would be gigabytes."""
    wanted = torch.nn.functional.normalize(vectors.float(), dim=-1)
    every = torch.arange(base.rows, device=wanted.device)[None].split(8192, 1)
    tables = (torch.nn.functional.normalize(base.embed(part)[0].float(), dim=-1) for part in every)
    parts = [wanted @ table.T for table in tables]
    best = torch.cat(parts, 1).topk(min(top, base.rows), -1)
    return _words(base, best.indices, best.values)


def _words(base: Base, ids: Tensor, near: Tensor) -> list[tuple[Word, ...]]:
    found = []
    for row, values in zip(ids.tolist(), near.tolist(), strict=True):
        texts = zip(row, spelt(base, row), values, strict=True)
        found.append(tuple(Word(number, text, value) for number, text, value in texts))
    return found
