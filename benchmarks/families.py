"""Proves every type of model that masc declares on a tiny random model, and writes the table in docs/models.md.

python benchmarks/families.py            # all; the table is written
python benchmarks/families.py gpt_oss    # one or more; figures are printed only
"""

from __future__ import annotations

import re
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "helpers"))

import torch
from families import make_family

from masc.backends.torch.proving.prove import prove
from masc.compiler.models.families import FAMILIES
from masc.compiler.models.proof import FUSED, KV, MOVED, Proof

HEAD = ("type", "special", "edges", "adapters on", "logits", "slopes")
_COUNTED = ("moved", "present", "differences")
"""Identities whose figures are no differences of logits."""


def row(kind: str, proof: Proof) -> tuple[str, ...]:
    """What the table says of a type."""
    figures = {one.name: one.figure for one in proof.identities if one.held}
    logits = max(figure for name, figure in figures.items() if name not in _COUNTED and figure is not None)
    on = "attention" if FAMILIES[kind].experts else "all projections"
    return f"`{kind}`", FAMILIES[kind].special, edges(proof), on, f"{logits:.0e}", f"{figures['differences']:.0e}"


def edges(proof: Proof) -> str:
    """The channels that a model can have beside `hidden` and `text`, which all can."""
    if proof.holds(FUSED):
        return "all"
    if proof.holds(MOVED):
        return "no `fuse`"
    return "no `fuse`, no `merge = stack`" if proof.holds(KV) else "`hidden`, `text`"


def main(kinds: list[str]) -> None:
    torch.set_num_threads(1)
    rows = []
    for kind in kinds or sorted(FAMILIES):
        with tempfile.TemporaryDirectory() as folder:
            rows.append(row(kind, prove(make_family(Path(folder) / kind, kind))))
        print(*rows[-1], sep="  ", flush=True)
    if kinds:
        return
    lines = [HEAD, ("---",) * len(HEAD), *rows]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines).replace("|  |", "| |")
    page = ROOT / "docs" / "models.md"
    marked = re.compile(r"<!-- families -->\n.*<!-- end of families -->", re.DOTALL)
    made = f"<!-- families -->\n\n{table}\n<!-- end of families -->"
    page.write_text(marked.sub(lambda _: made, page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
