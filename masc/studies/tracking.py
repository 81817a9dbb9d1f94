"""What evaluations send to trackers (`masc eval --tracker`), under the names that training uses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from masc.session.programs import Found

if TYPE_CHECKING:
    from masc.backends.torch.evaluation.evaluate import Item
    from masc.backends.torch.evaluation.report import Report
    from masc.backends.torch.program import Program

ANSWERS = 50
"""Answers that are sent as a table, the first ones."""
COLUMNS = ("row", "said", "gold", "score")


def track(
    found: Found,
    program: Program | None,
    names: Sequence[str],
    numbers: Mapping[str, float],
    items: Sequence[Item],
    about: Mapping[str, Any],
) -> None:
    """Send numbers, at the step that the weights have seen, and a table of answers to trackers. about: what the run is
    told of. program: None where it ran elsewhere."""
    from masc.backends.torch.training.trackers import Trackers

    with Trackers(names, found.artifact.layout.root, about, program) as tracked:
        tracked.send({name: value for name, value in numbers.items() if math.isfinite(value)}, steps_of(found))
        if items:
            rows = [[str(one.index + 1), _cell(one.said), _cell(one.gold), f"{one.score:.3g}"] for one in items]
            tracked.tell("eval/answers", COLUMNS, rows[:ANSWERS])


def steps_of(found: Found) -> int:
    """Of training, that the weights have seen; 0: none."""
    if found.checkpoint is not None:
        return int(found.checkpoint.name.rpartition("-")[2])
    trained = found.artifact.manifest.training
    return 0 if trained is None else int(dict(trained.settings).get("steps", 0))


def numbers_of(report: Report) -> dict[str, float]:
    """The numbers of an evaluation: `eval/accuracy`, `eval/pass@4`, ..."""
    told = report.json()
    found = {f"eval/{name}": float(one) for name, one in told.items() if _is_number(one)}
    return found | {f"eval/pass@{k}": float(share) for k, share in report.pass_at.items()}


def numbers_of_harness(results: Mapping[str, Any]) -> dict[str, float]:
    """Those of tasks of lm-evaluation-harness: `eval/gsm8k/exact_match,strict-match`, ..."""
    return {
        f"eval/{task}/{metric.removesuffix(',none')}": float(value)
        for task, metrics in results["results"].items()
        for metric, value in metrics.items()
        if "," in metric and _is_number(value)
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cell(text: str) -> str:
    """A text in a cell of a table, also of one in Markdown."""
    return " ".join(text[:300].split()).replace("|", "\\|")
