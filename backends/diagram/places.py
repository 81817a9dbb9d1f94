"""Where the parts of a drawing stand."""

from __future__ import annotations

from dataclasses import dataclass

GAP = 4.0
"""Pixels from the end of a line to the box that it points at: as far as the tip of its arrowhead reaches."""


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels: its middle and its size."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Layout:
    """All in pixels. `nodes` and `frames` by id; of each link, in the sketch's order, the `d` of its path and the place
    of its words (None: it has none)."""

    width: float
    height: float
    nodes: dict[str, Box]
    frames: dict[str, Box]
    paths: tuple[str, ...]
    labels: tuple[Box | None, ...]
