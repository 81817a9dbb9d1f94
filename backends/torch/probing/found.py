"""What an audit finds, and that in words: a table for the terminal, for trackers and for notebooks."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from masc.backends.notebook import paragraphs, table

Interval = tuple[float, float, float]
"""A mean and its 95% interval."""


@dataclass(frozen=True)
class Outcome:
    """The answers of all rows under one condition. accuracy: 0 to 1 (of several outputs: all of them right);
    log_likelihood: of the gold answers, nats, the mean over rows; the changes against the team as it is, with their 95%
    intervals (paired bootstrap over rows)."""

    accuracy: float
    log_likelihood: float
    accuracy_change: Interval
    log_likelihood_change: Interval


@dataclass(frozen=True)
class EdgeAudit:
    """One pair of agents. conditions: `cut`, `swap` (another sample's content), `noise` (of the same norm), and for
    keys and values `layers a..b`: the edge reaches only those of the receiver's layers. attention: the share of the
    receiver's attention that falls on what came through the edge, mean over its positions, heads and layers (None:
    there are no such positions, as with text and fusion); by layer too. gradient: the norm of the gradient of a
    row's loss with respect to what crosses, root mean square over rows. carries: nats about the row that the
    answers lose when the content is another sample's; 0 where that cannot be told from nothing.
    """

    sender: str
    receiver: str
    kinds: tuple[str, ...]
    conditions: dict[str, Outcome] = field(default_factory=dict)
    attention: float | None = None
    attention_by_layer: tuple[float, ...] = ()
    gradient: float = 0.0
    carries: float = 0.0


@dataclass(frozen=True)
class Audit:
    """items: rows; accuracy, log_likelihood: of the team as it is; watched: rows of which attention and gradients were
    taken."""

    items: int
    accuracy: float
    log_likelihood: float
    watched: int
    edges: tuple[EdgeAudit, ...]

    def _repr_html_(self) -> str:
        return table(rows(self), COLUMNS) + paragraphs(summaries(self))


COLUMNS = ("edge", "condition", "accuracy", "change", "log-likelihood", "change")


def text_table(audit: Audit) -> str:
    """A line for the unchanged team, a line for each edge and condition, and below them what each edge carries."""
    lines = [list(COLUMNS), *rows(audit)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(COLUMNS))]
    shown = ["  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in lines]
    return "\n".join([*shown, "", *summaries(audit)])


def rows(audit: Audit) -> list[list[str]]:
    """The table, as texts under `COLUMNS`."""
    lines = [["", "as it is", f"{audit.accuracy:.1%}", "", f"{audit.log_likelihood:.3f}", ""]]
    for edge in audit.edges:
        for i, (name, outcome) in enumerate(edge.conditions.items()):
            lines.append(
                [
                    f"{edge.sender} -> {edge.receiver}" if i == 0 else "",
                    name,
                    f"{outcome.accuracy:.1%}",
                    _interval(outcome.accuracy_change, 100, 1),
                    f"{outcome.log_likelihood:.3f}",
                    _interval(outcome.log_likelihood_change, 1, 3),
                ]
            )
    return lines


def _interval(change: tuple[float, float, float], scale: float, digits: int) -> str:
    middle, low, high = (f"{scale * value:+.{digits}f}" for value in change)
    return f"{middle} ({low} to {high})" if math.isfinite(change[1]) else middle


def summaries(audit: Audit) -> list[str]:
    """What each edge carries, a sentence each."""
    return list(map(_summary, audit.edges))


def _summary(edge: EdgeAudit) -> str:
    what = f"carries {edge.carries:.3f} nats a row" if edge.carries else "carries nothing that could be measured"
    seen = "" if edge.attention is None else f"; {edge.attention:.1%} of {edge.receiver}'s attention"
    return (
        f"{edge.sender} -> {edge.receiver} ({', '.join(edge.kinds)}): {what}{seen}; gradient norm {edge.gradient:.3g}"
    )
