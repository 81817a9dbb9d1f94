"""Whether two commits train to the same bits: `python benchmarks/same.py > a.txt` at each of them, then `diff`.

`examples/courier` is trained on a tiny model, and on smollm2-135m where that is on disk. Printed are every loss, the
sha256 of every trained tensor and some answers. `--set` as for `masc train`: `python benchmarks/same.py --set batch=4`.
On another machine, or with another number of threads, the numbers may differ anyway: compare on one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

import masc
from masc.compiler.models.locate import registry_folder

ROOT = Path(__file__).resolve().parents[1]
COURIER = ROOT / "examples" / "courier"
MODEL = "smollm2-135m"


def models(folder: Path) -> Iterator[str]:
    """What the graph's model can be, made or found here."""
    sys.path.insert(0, str(ROOT / "tests" / "helpers"))
    from support import make_model

    yield f"./{make_model(folder / 'tiny').name}"
    if (registry_folder(MODEL) / "config.json").is_file():
        yield MODEL


def digest(tensor: torch.Tensor) -> str:
    """Of a tensor's dtype, shape and bytes."""
    raw = tensor.detach().cpu().contiguous()
    head = f"{raw.dtype} {tuple(raw.shape)} ".encode()
    return hashlib.sha256(head + raw.flatten().view(torch.uint8).numpy().tobytes()).hexdigest()


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (COURIER / name).read_text(encoding="utf-8").splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    sets = {"steps": options.steps, **dict(word.split("=", 1) for word in options.set)}
    warnings.simplefilter("ignore")  # the channel of so short a run never closes
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for model in models(folder):
            file = folder / "courier.mas"
            file.write_text((COURIER / "courier.mas").read_text(encoding="utf-8").replace(MODEL, model))
            program = masc.compile(file, set=sets, dtype=options.dtype, device=options.device)
            print(f"model {model}, {options.dtype} on {options.device}, {torch.get_num_threads()} threads, {sets}")
            for metrics in masc.train(program, rows("train.jsonl")):
                print(f"step {metrics['step']} loss {metrics['loss']!r}")
            for parameter, tensor in sorted(program.trainable().items()):
                print(f"{digest(tensor)} {parameter}")
            for said in program.generate(rows("test.jsonl")[:4]):
                print(f"said {said!r}")


if __name__ == "__main__":
    main()
