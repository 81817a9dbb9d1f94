"""What an evaluation found, in words."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from masc.compiler.analysis.decoding import words_of

if TYPE_CHECKING:
    from masc.backends.torch.evaluation.evaluate import Report


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
