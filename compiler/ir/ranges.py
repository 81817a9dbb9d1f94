"""Sets of layers as views hold them: inclusive ranges, ascending and disjoint, never adjacent; None is all layers."""

from __future__ import annotations

from masc.compiler.ir.plan import Layers


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
