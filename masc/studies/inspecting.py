"""`masc inspect`: what was found inside a team, as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from masc.terminal.finite import finite

if TYPE_CHECKING:
    from masc.backends.torch.probing.inspection import Inspection


def to_json(found: Inspection, about: Mapping[str, Any]) -> dict[str, Any]:
    """All that was found. about: where it comes from (`provenance.py`)."""
    known: dict[str, Any] = finite({**found.json(), "run": about})
    return known
