"""`metrics.jsonl`: a line for each step of training, and after it one for what its evaluation found."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from masc.backends.torch.training.disk import writing
from masc.compiler.files.writing import atomic_write

Metrics = dict[str, Any]


class MetricsFile:
    """The lines of one run. Each is written at once, as a whole."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, metrics: Mapping[str, Any]) -> None:
        """Add a line. E0703 where it cannot be written."""
        line = json.dumps(metrics, default=float) + "\n"  # float: an evaluation of one's own may find tensors
        with writing(f"`{self.path}`"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line)

    def sync(self) -> None:
        """Have the system write what it still holds back: a checkpoint never knows more steps than this file."""
        if self.path.exists():
            with writing(f"`{self.path}`"), self.path.open("rb") as file:
                os.fsync(file.fileno())

    def drop(self) -> None:
        """Forget the run."""
        with writing(f"`{self.path}`"):
            self.path.unlink(missing_ok=True)

    def keep(self, step: int) -> list[int]:
        """Forget the lines of later steps, which will run again, and a last line that a kill cut off. Returns the steps
        up to there of which there is no line that can be read: somebody has damaged the file, or taken it away."""
        kept: dict[tuple[int, bool], str] = {}
        for line, item in self._read():
            if item["step"] <= step:
                kept[item["step"], _evaluates(item)] = line
        text = "".join(kept[key] + "\n" for key in sorted(kept))
        if self.path.exists() and self.path.read_bytes() != text.encode():
            atomic_write(self.path, text)
        return [number for number in range(1, step + 1) if (number, False) not in kept]

    def evaluated(self, step: int) -> bool:
        """Whether the evaluation after a step has been noted."""
        return any(item["step"] == step and _evaluates(item) for _, item in self._read())

    def _read(self) -> list[tuple[str, Metrics]]:
        """The lines that can be read, as they are written and as they are meant."""
        if not self.path.is_file():
            return []
        found = []
        for line in self.path.read_bytes().split(b"\n"):
            try:
                text = line.decode()
                item = json.loads(text)
            except (ValueError, RecursionError):  # not UTF-8, not JSON
                continue
            if isinstance(item, dict) and type(item.get("step")) is int:
                found.append((text, item))
        return found


def _evaluates(item: Metrics) -> bool:
    """Whether a line is an evaluation's: those of steps hold gradient norms."""
    return "grad_norms" not in item
