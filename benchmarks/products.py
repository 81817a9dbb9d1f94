"""Products of a few rows with a frozen matrix in float32, as torch makes them and as masc does (`model/products.py`).

python benchmarks/products.py [--threads 2] [--rows 1,2,4,8,16,24] [--shapes 3072x576,576x1536]

Each is computed with so many matrices in turn that none is still in the processor's cache. Microseconds, the least of
some rounds: forward and backward, torch's own and masc's, and by a copy in oneDNN's order. Shapes are out x in.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from masc.backends.torch.model import products

Copy = Callable[[Tensor, Tensor | None], Tensor]
SMOLLM2 = "3072x576,576x1536,960x576,576x576,49152x576"
MEMORY = 500_000_000
"""Bytes of matrices of a shape."""
ROUNDS = 5


def least(calls: Sequence[Callable[[int], object]], turns: int) -> list[float]:
    """Microseconds of each, called with the numbers of the matrices in turn; rounds of all of them, one by one."""
    found = [float("inf")] * len(calls)
    for call in calls:
        call(0)
    for _ in range(ROUNDS):
        for i, call in enumerate(calls):
            began = time.perf_counter()
            for turn in range(turns):
                call(turn)
            found[i] = min(found[i], (time.perf_counter() - began) / turns * 1e6)
    return found


def line(shape: str, rows: int, weights: Sequence[Tensor], copies: Sequence[Copy]) -> str:
    out, width = weights[0].shape
    x, gradient = torch.randn(rows, width), torch.randn(rows, out)
    found = least(
        [
            lambda i: functional.linear(x, weights[i]),
            lambda i: products.across(x, weights[i].t()),
            lambda i: copies[i](x, None),
            lambda i: gradient @ weights[i],
            lambda i: products.back(gradient, weights[i]),
        ],
        len(weights),
    )
    return f"| {shape} | {rows} | " + " | ".join(f"{one:,.0f}" for one in found) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rows", default="1,2,3,4,8,16,24,64")
    parser.add_argument("--shapes", default=SMOLLM2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    print("| out x in | rows | torch | masc | a copy | torch, back | masc, back |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for shape in options.shapes.split(","):
        out, width = map(int, shape.split("x"))
        turns = max(2, min(200, MEMORY // (out * width * 4)))
        weights = [torch.randn(out, width) for _ in range(turns)]
        copies = [products.packed(one) for one in weights]
        for rows in map(int, options.rows.split(",")):
            print(line(shape, rows, weights, copies), flush=True)


if __name__ == "__main__":
    main()
