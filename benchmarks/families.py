"""Proves every type of model that masc declares on a tiny random model, and prints the figures.

    python benchmarks/families.py            # all; the table in docs/models.md is made of it (`make generated`)
    python benchmarks/families.py gpt_oss    # one or more; their lines of the table

Behind each type: the largest difference of logits over all identities, and of the loss's slopes; the difference between
a batch and its rows one by one on the same model, loaded with its weights in 4 bits (`load = nf4`, extra `quant`).
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests" / "helpers"))

import torch
from families import make_family

from masc.backends.torch.model.base import Base
from masc.backends.torch.proving import identities
from masc.backends.torch.proving.prove import prove
from masc.compiler.models.families import FAMILIES
from masc.compiler.models.proof import KV, Proof

_COUNTED = ("moved", "present", "differences")
"""Identities whose figures are no differences of logits."""


KEPT = Path(__file__).with_suffix(".json")
"""By type its figures, as text, and the version of transformers that they are of."""


def figures(proof: Proof) -> dict[str, str]:
    """The figures of a type. SystemExit where something does not hold."""
    if failed := [one.name for one in proof.failed(KV)]:
        raise SystemExit(f"{proof.model_type} does not hold: {', '.join(failed)}")
    found = {one.name: one.figure for one in proof.identities if one.held and one.figure is not None}
    logits = max(figure for name, figure in found.items() if name not in _COUNTED)
    return {
        "logits": f"{logits:.0e}",
        "slopes": f"{found['differences']:.0e}",
        "transformers": proof.transformers,
    }


def in_four_bits(folder: Path) -> str:
    """How far a batch is from its rows where the weights are held in 4 bits, under adapters; in words, why it cannot
    be known."""
    try:
        base = Base(folder, torch.float32, "nf4")
        channels = ("kv", "kv") if base.recurrent is None else ("hidden", "kv")
        return f"{identities.batch(identities.adapted(base, *channels)):.0e}"
    except Exception as error:  # whatever transformers and bitsandbytes have against it
        return f"fails ({type(error).__name__})"


def main(kinds: list[str]) -> None:
    torch.set_num_threads(1)
    kept = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}
    for kind in kinds or sorted(FAMILIES):
        with tempfile.TemporaryDirectory() as folder:
            made = make_family(Path(folder) / kind, kind)
            kept[kind] = found = figures(prove(made)) | {"nf4": in_four_bits(made)}
        print(f"{kind:<20}{found['logits']:>9}{found['slopes']:>9}{found['nf4']:>9}", flush=True)
        body = {name: kept[name] for name in sorted(kept) if name in FAMILIES}
        KEPT.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
