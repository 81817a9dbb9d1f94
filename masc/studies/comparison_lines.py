"""The lines of a comparison's table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Line:
    """One line of the table: a row at one value of the sweep, as the mean over its seeds. Accuracies are shares (0 to
    1), perplexities are per token (None: not finite), seconds are those of decoding and scoring all test rows.

    title      the row's title
    seeds      the number of runs in the mean; one if nothing depends on the seed
    interval   Wilson's 95% interval; n is the number of test rows, whatever the number of seeds
    against    the difference to the fine-tuned single agent, with its 95% interval (paired bootstrap over items; NaN if
               there are too few). None: this is that row, or that row was not run
    decoding   how each output, and each agent that speaks to others, is decoded
    flops      of one row that is answered, answers as long as `max_tokens` allows; positions: likewise, those that
               models run through. None: not known
    voters     answers to a row, of which the one counts that most of them give
    detectable the smallest difference to the fine-tuned single agent that these rows and seeds would have shown four
               times in five. None as `against`
    """

    row: str
    title: str
    values: tuple[tuple[str, str], ...]
    seeds: int
    accuracy: float
    interval: tuple[float, float]
    against: tuple[float, float, float] | None
    gold_perplexity: float | None
    decoded_perplexity: float | None
    agreement: float | None
    tokens_decoded: float
    latent_steps: float
    seconds: float
    parameters: int
    decoding: tuple[tuple[str, str], ...] = ()
    flops: float | None = None
    positions: int | None = None
    voters: int = 1
    detectable: float | None = None

    @property
    def label(self) -> str:
        return ", ".join([self.title, *(f"{name} = {value}" for name, value in self.values)])


def merged(lines: Sequence[Line]) -> list[Line]:
    """The lines; a row that is the same at every value of a sweep gets one line."""
    found: list[Line] = []
    for row in dict.fromkeys(line.row for line in lines):
        own = [line for line in lines if line.row == row]
        bare = {replace(line, values=()) for line in own}
        found += bare if len(own) > 1 and len(bare) == 1 else own
    return found
