"""Stop strings: where an answer's text ends, and what of an unfinished one may be shown."""

from __future__ import annotations

from collections.abc import Sequence

from masc.compiler.ir.plan import Sampling


def cut_at_stop(text: str, sampling: Sampling) -> str:
    """The text up to the first stop string."""
    ends = [at for stop in sampling.stop if (at := text.find(stop)) >= 0]
    return text[: min(ends)] if ends else text


def without_partial_stop(text: str, stops: Sequence[str]) -> str:
    """The text less a tail that is the beginning of a stop string."""
    for size in range(max((len(s) for s in stops), default=1) - 1, 0, -1):
        if any(s.startswith(text[-size:]) for s in stops if len(s) > size and len(text) >= size):
            return text[:-size]
    return text


class Shown:
    """What has been shown of a text that grows."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling, self._text = sampling, ""

    def piece(self, text: str, done: bool) -> str:
        """What can be shown beyond that: empty if nothing. text: all there is so far, stop strings too; done: there
        will be no more."""
        text = cut_at_stop(text, self._sampling)
        # Hold back half a character, and what may be the beginning of a stop string.
        safe = text if done else without_partial_stop(text.rstrip("\ufffd"), self._sampling.stop)
        if not safe.startswith(self._text):
            return ""
        piece, self._text = safe[len(self._text) :], safe
        return piece
