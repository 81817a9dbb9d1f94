"""What else is told of a run: TensorBoard, trackio, Weights & Biases and others, through accelerate.

Names are those that people look for: `train/loss`, `train/grad_norm/solver`, `eval/accuracy`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from masc.backends.torch.training.metrics import Metrics

if TYPE_CHECKING:
    from accelerate import Accelerator

    from masc.backends.diagram import Weights
    from masc.backends.torch.program import Program

_NAMES = {"rate": "learning_rate"}
_GROUPS = {"grad_norms": "grad_norm", "grad_norms_by_round": "grad_norm", "gates": "gate"}
"""What `metrics.jsonl` holds by agent or edge, and under which name trackers are told each of it."""


def named(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of a line of metrics by the names that trackers get: those of an evaluation begin with `eval/`, all
    others with `train/`."""
    return {name: float(value) for name, value in _named(metrics) if isinstance(value, int | float)}


def _named(metrics: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in metrics.items():
        if key in _GROUPS:
            yield from ((f"train/{_GROUPS[key]}/{name}", one) for name, one in value.items())
        elif key.startswith("eval_"):
            yield f"eval/{key.removeprefix('eval_')}", value
        elif key != "step":
            yield f"train/{_NAMES.get(key, key)}", value


class Trackers:
    """A context in which metrics can be logged; it closes what it has opened, whatever happens."""

    def __init__(
        self, names: Sequence[str], folder: Path | None, config: Mapping[str, Any], program: Program | None
    ) -> None:
        self._program = program
        self._accelerator: Accelerator | None = None
        if names:
            from accelerate import Accelerator

            self._accelerator = Accelerator(
                cpu=program is None or program.device.type == "cpu",
                log_with=list(names),
                project_dir=None if folder is None else str(folder),
            )
            self._accelerator.init_trackers("masc", config={key: str(value) for key, value in config.items()})

    def __enter__(self) -> Trackers:
        return self

    def __exit__(self, *_: object) -> None:
        if self._accelerator is not None:
            self._accelerator.end_training()

    def log(self, metrics: Metrics, step: int) -> None:
        """Send the numbers of a step, or of an evaluation after it, on."""
        self.send(named(metrics), step)

    def send(self, numbers: Mapping[str, float], step: int) -> None:
        """Send numbers on under the names that they have."""
        if self._accelerator is not None:
            self._accelerator.log(dict(numbers), step=step)

    def tell(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Send a table to those trackers that take tables: to TensorBoard as Markdown."""
        for tracker in self._accelerator.trackers if self._accelerator is not None else ():
            match tracker.name:
                case "tensorboard":
                    lines = [columns, ["---"] * len(columns), *rows]
                    tracker.log({name: "\n".join(f"| {' | '.join(line)} |" for line in lines)}, step=0)
                case "trackio":
                    import trackio

                    tracker.log({name: trackio.Table(columns=list(columns), data=list(map(list, rows)))}, step=0)
                case "wandb" | "clearml":
                    tracker.log_table(name, columns=list(columns), data=list(map(list, rows)), step=0)

    def draw(self, step: int, name: str = "graph", weights: Weights | None = None) -> None:
        """Send the picture of the program's graph, with what its edges carry if it is known, to those trackers that
        take pictures."""
        made = None if self._program is None else self._program.history.compilation
        if self._accelerator is None or made is None or made.graph is None:
            return
        import numpy as np
        from PIL import Image

        from masc.backends.diagram import FORMATS

        drawn = FORMATS["png"](made.graph, weights)
        assert isinstance(drawn, bytes)
        picture = np.asarray(Image.open(io.BytesIO(drawn)).convert("RGB"))
        for tracker in self._accelerator.trackers:
            match tracker.name:
                case "tensorboard":
                    tracker.log_images({name: picture[None]}, step=step, dataformats="NHWC")
                case "trackio":  # accelerate has no pictures for it
                    import trackio

                    tracker.log({name: trackio.Image(picture)}, step=step)
                case "wandb" | "aim" | "clearml" | "swanlab":
                    tracker.log_images({name: [picture]}, step=step)
