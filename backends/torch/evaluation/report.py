"""The numbers of an evaluation, and these in words: a table for the terminal and for notebooks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from masc.backends.notebook import table
from masc.compiler.analysis.decoding import Engine, words_of


@dataclass(frozen=True)
class Report:
    """The numbers of one evaluation, and how they came about. Of several sampled answers a row (`repeat`), shares and
    perplexities are over all of them."""

    items: int
    """Rows that were scored."""
    correct: int
    """Answers that were right (of a scorer that gives shares: wholly right), of `items` * `repeat`."""
    accuracy: float
    """Share of right answers, 0 to 1, the mean of the scores; of several answers a row it is avg@k."""
    low: float
    """Lower end of the 95% interval of the accuracy, 0 to 1, for other rows of the same kind: Wilson's, of several
    answers a row as `repeats.interval` does it."""
    high: float
    """Upper end of it."""
    gold_perplexity: float
    """exp of the mean negative log-likelihood (nats) of a token of the scored output's gold answers, teacher forced,
    ends of turn included. NaN where rows lack the gold answer of some output."""
    decoded_perplexity: float
    """exp of the mean negative log-likelihood (nats) of a token of the scored output's decoded answers, ends of turn
    included."""
    tokens_decoded: int
    """Tokens of all outputs' answers without ends of turn, summed over all answers."""
    cut_off: int
    """Answers of the scored output that `max_tokens`, or the model's last position, cut off before they ended."""
    latent_steps: int
    """Latent steps of all agents, summed over all answers."""
    seconds: float
    """Wall time in seconds of decoding and scoring, without that of the gold perplexity."""
    scorer: str = "exact"
    """What an answer was held against its gold with: the scorer's name."""
    output: str = "answer"
    """The output that was scored."""
    repeat: int = 1
    """Answers to each row."""
    pass_at: Mapping[int, float] = field(default_factory=dict)
    """By k = 1, 2, 4, ... and `repeat`: the chance that one of k answers is right, mean over rows, 0 to 1
    (`repeats.pass_at`). Empty for one answer a row."""
    majority: float | None = None
    """Share of rows of which the answer that most of its samples give is right, 0 to 1 (`repeats.majority`). None for
    one answer a row, and for code, of which no two answers are the same."""
    decoding: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """How each output, and each agent that says something to others, was decoded: `max_tokens`, `temperature` (0:
    greedy), `top_p`, `seed`, `stop`."""
    dtype: str = "float32"
    """Of the frozen base models."""
    device: str = "cpu"
    engine: Engine = "fast"
    """What ran it: `fast`, or `exact` as training computes."""

    def json(self) -> dict[str, Any]:
        """As a dict for JSON; a perplexity that is not finite becomes None."""
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in asdict(self).items()}

    def _repr_html_(self) -> str:
        return table(report_rows(self))


def report_rows(result: Report) -> list[tuple[str, str]]:
    """A report as rows of a table: what, and how much."""

    def number(value: float) -> str:
        return "infinite" if math.isinf(value) else "-" if math.isnan(value) else f"{value:.4g}"

    rows = []
    if result.repeat == 1:
        rows.append(("accuracy", f"{result.accuracy:.1%}  ({result.correct} of {result.items})"))
    else:
        told = f"{result.correct} of {result.items * result.repeat} answers to {result.items} rows"
        rows.append((f"accuracy, avg@{result.repeat}", f"{result.accuracy:.1%}  ({told})"))
    rows.append(("95% interval", f"{result.low:.1%} to {result.high:.1%}"))
    rows += [(f"pass@{k}", f"{share:.1%}") for k, share in result.pass_at.items() if k > 1]
    if result.majority is not None:
        rows.append((f"majority of {result.repeat}", f"{result.majority:.1%}"))
    rows += [
        ("gold perplexity", number(result.gold_perplexity)),
        ("decoded perplexity", number(result.decoded_perplexity)),
        ("tokens decoded", str(result.tokens_decoded)),
        ("cut off", f"{result.cut_off} of {result.items * result.repeat} answers"),
        ("latent steps", str(result.latent_steps)),
        ("wall time", f"{result.seconds:.1f} s"),
    ]
    rows += [(f"decoding, {name}", words_of(known)) for name, known in result.decoding.items()]
    return rows
