"""How a line is drawn of which one knows what it carries: the more, the thicker; next to nothing is grey and dashed."""

from __future__ import annotations

FAINT = 0.02
"""Shares below this are told apart from nothing by nobody."""
GREY = "#b4b4b4"
THINNEST, THICKEST = 1.0, 8.0


def is_faint(weight: float) -> bool:
    return weight < FAINT


def width(weight: float) -> float:
    """The width of a line in pixels, for a share from 0 to 1 (what lies outside is drawn as the nearest)."""
    return round(THINNEST + (THICKEST - THINNEST) * min(max(weight, 0.0), 1.0), 2)
