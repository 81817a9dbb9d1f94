"""What else is told of a run's metrics: TensorBoard, Weights & Biases and others, through accelerate."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from masc.backends.torch.training.metrics import Metrics
from masc.compiler.ir.plan import TrainSettings

if TYPE_CHECKING:
    from accelerate import Accelerator


class Trackers:
    """A context in which metrics can be logged; it closes what it has opened, whatever happens."""

    def __init__(
        self, names: Sequence[str], folder: Path | None, settings: TrainSettings, device: torch.device
    ) -> None:
        self._accelerator: Accelerator | None = None
        if names:
            from accelerate import Accelerator

            self._accelerator = Accelerator(
                cpu=device.type == "cpu", log_with=list(names), project_dir=None if folder is None else str(folder)
            )
            config = {key: str(value) for key, value in dataclasses.asdict(settings).items()}
            self._accelerator.init_trackers("masc", config=config)

    def __enter__(self) -> Trackers:
        return self

    def __exit__(self, *_: object) -> None:
        if self._accelerator is not None:
            self._accelerator.end_training()

    def log(self, metrics: Metrics) -> None:
        """Send the numbers of a step on."""
        if self._accelerator is None:
            return
        flat = {k: v for k, v in metrics.items() if isinstance(v, int | float)}
        flat |= {f"grad_norm/{name}": norm for name, norm in metrics["grad_norms"].items()}
        flat |= {f"grad_norm/{name}": norm for name, norm in metrics.get("grad_norms_by_round", {}).items()}
        self._accelerator.log(flat, step=metrics["step"])
