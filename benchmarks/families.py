"""Proves every type of model that masc declares on a tiny random model, and prints the figures.

    python benchmarks/families.py            # all
    python benchmarks/families.py gpt_oss    # one or more

Behind each type: the largest difference of logits over all identities, and of the loss's slopes.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "helpers"))

import torch
from families import make_family

from masc.backends.torch.proving.prove import prove
from masc.compiler.models.families import FAMILIES
from masc.compiler.models.proof import Proof

_COUNTED = ("moved", "present", "differences")
"""Identities whose figures are no differences of logits."""


def line(kind: str, proof: Proof) -> str:
    """The figures of a type."""
    figures = {one.name: one.figure for one in proof.identities if one.held and one.figure is not None}
    failed = [one.name for one in proof.identities if one.held is False]
    logits = max((figure for name, figure in figures.items() if name not in _COUNTED), default=float("nan"))
    slopes = figures.get("differences", float("nan"))
    return f"{kind:<20}{logits:>9.0e}{slopes:>9.0e}" + (f"  does not hold: {', '.join(failed)}" if failed else "")


def main(kinds: list[str]) -> None:
    torch.set_num_threads(1)
    for kind in kinds or sorted(FAMILIES):
        with tempfile.TemporaryDirectory() as folder:
            print(line(kind, prove(make_family(Path(folder) / kind, kind))), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
