"""What a training in Python returns: the metrics of its steps, which a notebook shows as a curve and a table."""

from __future__ import annotations

from collections.abc import Mapping

from masc.backends.notebook import curves, table
from masc.backends.torch.training.metrics import Metrics

CURVES: Mapping[str, tuple[str, ...]] = {
    "loss, nats a token": ("loss", "eval_loss"),
    "reward": ("reward",),
    "accuracy": ("eval_accuracy",),
}
"""What is drawn, where it is there: the axis, and the metrics over it."""
SHOWN = ("loss", "reward", "rate", "tokens", "seconds")
"""The columns of the table, where they are there."""
MOST = 12
"""Its lines."""


class TrainingLog(list[Metrics]):
    """The metrics of the steps that ran, one dict each (`pandas.DataFrame(log)` makes a table of them)."""

    def _repr_html_(self) -> str:
        if not self:
            return "<p>no step was left to do</p>"
        drawn = (self._curve(up, names) for up, names in CURVES.items())
        return "".join([*drawn, self._table()])

    def _curve(self, up: str, names: tuple[str, ...]) -> str:
        lines = {name: [(one["step"], one[name]) for one in self if name in one] for name in names}
        found = {name: points for name, points in lines.items() if points}
        return curves(found, "step", up) if found else ""

    def _table(self) -> str:
        """Some steps, evenly chosen, the last one too."""
        names = [name for name in SHOWN if name in self[0]]
        every = -(-len(self) // MOST)
        chosen = self[::-1][::every][::-1]
        rows = [[str(one["step"]), *(f"{one[name]:.4g}" for name in names)] for one in chosen]
        return table(rows, ["step", *names])
