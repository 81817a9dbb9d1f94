"""Sets of layers, as views hold them."""

from __future__ import annotations

Some = tuple[tuple[int, int], ...]
"""Layers as inclusive ranges, ascending and disjoint, never adjacent."""
Layers = Some | None
"""The same; None: all layers."""


def union(a: Layers, b: Layers) -> Layers:
    if a is None or b is None:
        return None
    joined: list[tuple[int, int]] = []
    for first, last in sorted(a + b):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return tuple(joined)


def intersection(a: Layers, b: Layers) -> Layers:
    """The layers in both; the empty tuple where there are none."""
    if a is None or b is None:
        return b if a is None else a
    pairs = ((max(x[0], y[0]), min(x[1], y[1])) for x in a for y in b)
    return tuple(sorted((first, last) for first, last in pairs if first <= last))


def within(a: Layers, b: Layers) -> bool:
    """Whether all layers of `a` are in `b`."""
    return b is None or (a is not None and union(a, b) == b)


def top(layers: Some) -> int:
    """The topmost layer; -1 where there is none."""
    return layers[-1][1] if layers else -1


def layers_text(layers: Some) -> str:
    """As it stands in a plan: `layers=0..9+12..14`."""
    return "layers=" + "+".join(f"{first}..{last}" for first, last in layers)


def layers_told(layers: Layers) -> str:
    """In words."""
    return "all layers" if layers is None else "layers " + ", ".join(f"{first}..{last}" for first, last in layers)


def in_order(layers: Layers, most: int = 2**63) -> bool:
    """Whether ranges are what they should be."""
    if layers is None:
        return True
    return layers != () and all(0 <= a <= b < most for a, b in layers) and layers == union(layers, ())
