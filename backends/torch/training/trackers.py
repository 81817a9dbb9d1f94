"""What else is told of a run: TensorBoard, trackio, Weights & Biases and others, through accelerate.

Names are those that people look for: `train/loss`, `train/grad_norm/solver`, `eval/accuracy`.
"""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from masc.backends.torch.training.metrics import Metrics
from masc.compiler.ir.plan import TrainSettings

if TYPE_CHECKING:
    from accelerate import Accelerator

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

    def __init__(self, names: Sequence[str], folder: Path | None, settings: TrainSettings, program: Program) -> None:
        self._program = program
        self._accelerator: Accelerator | None = None
        if names:
            from accelerate import Accelerator

            self._accelerator = Accelerator(
                cpu=program.device.type == "cpu",
                log_with=list(names),
                project_dir=None if folder is None else str(folder),
            )
            config = {key: str(value) for key, value in dataclasses.asdict(settings).items()}
            self._accelerator.init_trackers("masc", config=config)

    def __enter__(self) -> Trackers:
        return self

    def __exit__(self, *_: object) -> None:
        if self._accelerator is not None:
            self._accelerator.end_training()

    def log(self, metrics: Metrics, step: int) -> None:
        """Send the numbers of a step, or of an evaluation after it, on."""
        if self._accelerator is not None:
            self._accelerator.log(named(metrics), step=step)

    def draw(self, step: int) -> None:
        """Send the picture of the program's graph to those trackers that take pictures."""
        made = self._program.history.compilation
        if self._accelerator is None or made is None or made.graph is None:
            return
        import numpy as np
        from PIL import Image

        from masc.backends.diagram import FORMATS

        drawn = FORMATS["png"](made.graph, None)
        assert isinstance(drawn, bytes)
        picture = np.asarray(Image.open(io.BytesIO(drawn)).convert("RGB"))
        for tracker in self._accelerator.trackers:
            match tracker.name:
                case "tensorboard":
                    tracker.log_images({"graph": picture[None]}, step=step, dataformats="NHWC")
                case "trackio":  # accelerate has no pictures for it
                    import trackio

                    tracker.log({"graph": trackio.Image(picture)}, step=step)
                case "wandb" | "aim" | "clearml" | "swanlab":
                    tracker.log_images({"graph": [picture]}, step=step)
