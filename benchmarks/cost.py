"""Holds `masc cost` against what whole processes take: peak memory of running and of training, on SmolLM2-135M.

    python benchmarks/cost.py                      # relay and panel, float32 and bfloat16, batches of 1, 4 and 16
    python benchmarks/cost.py --examples debate --batches 4 --dtypes float32

Each row is of a process of its own, and has two numbers. Tensors: the most bytes that all storages of tensors had
together, each counted once, from when an operation made it until it was freed; the weights are among them. Resident:
the most memory that the process had resident (VmHWM, Linux) from before the model was loaded, less what it had then
(Python and the libraries): with what kernels take for themselves, and what an allocator holds back. Prints a Markdown
table.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TOKENS = 12
"""That are decoded, whatever the model says."""


def resident(what: str) -> int:
    """Bytes of this process: VmRSS now, VmHWM at most since `forget`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{what}:"))


def forget() -> None:
    """What was resident at most is what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")


def counting() -> Any:
    """A mode of torch within which storages are counted: `peak`, the most bytes at a time."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    class Storages(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.live = self.peak = 0
            self.seen: dict[int, Any] = {}

        def add(self, tensor: torch.Tensor) -> None:
            storage = tensor.untyped_storage()
            key, size = storage._cdata, storage.nbytes()
            if key in self.seen or tensor.device.type != "cpu":
                return
            self.seen[key] = weakref.finalize(storage, self.freed, key, size)
            self.live += size
            self.peak = max(self.peak, self.live)

        def freed(self, key: int, size: int) -> None:
            del self.seen[key]
            self.live -= size

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            for leaf in tree_leaves(out):
                if isinstance(leaf, torch.Tensor):
                    self.add(leaf)
            return out

    return Storages()


def rows_of(example: str, count: int) -> list[dict[str, Any]]:
    with open(ROOT / "examples" / example / data_of(example), encoding="utf-8") as file:
        return [json.loads(line) for _, line in zip(range(count), file, strict=False)]


def data_of(example: str) -> str:
    from masc.compiler.pipeline import compile_file

    return str(compile_file(ROOT / "examples" / example / f"{example}.mas").require().train.data)


def measure(example: str, doing: str, dtype: str, batch: int) -> tuple[int, int]:
    """Peak bytes in this process: of tensors, and resident."""
    import masc
    from masc.backends.torch.training import train  # noqa: F401  # libraries count as there before

    rows = rows_of(example, batch)
    before = resident("VmRSS")
    program = masc.compile(ROOT / "examples" / example / f"{example}.mas", dtype=dtype, device="cpu")
    forget()
    count = counting()
    for tensor in (*program.parameters(), *program.buffers()):
        count.add(tensor)
    with count:
        work(program, doing, rows, batch)
    return count.peak, resident("VmHWM") - before


def work(program: Any, doing: str, rows: list[dict[str, Any]], batch: int) -> None:
    import masc
    from masc.backends.torch.model.base import Base

    if doing == "running":
        for base in program.bases.values():
            assert isinstance(base, Base)
            base.__dict__["stop_ids"] = frozenset()  # nobody stops early
        program.generate(rows, max_tokens=TOKENS)
    else:
        masc.train(program, rows * 2, steps=2, batch=batch)


def predict(example: str, doing: str, dtype: str, batch: int) -> dict[str, int]:
    """The parts of the memory that `masc cost` says."""
    from masc.compiler.pipeline import compile_file
    from masc.session.costing import cost

    compilation = compile_file(ROOT / "examples" / example / f"{example}.mas")
    found = cost(compilation, None, rows_of(example, batch), "rows", batch=batch, dtype=dtype)
    side = found.running if doing == "running" else found.training
    assert side is not None
    return vars(side.memory)


def in_a_process(*arguments: str) -> tuple[int, ...]:
    quiet = {"OMP_NUM_THREADS": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    command = [sys.executable, __file__, "--one", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **quiet})
    if done.returncode:
        raise SystemExit(done.stderr)
    return tuple(map(int, done.stdout.split()[-2:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--examples", nargs="+", default=["relay", "panel"])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 4, 16])
    parser.add_argument("--doing", nargs="+", default=["running", "training"])
    parser.add_argument("--parts", action="store_true", help="also what the prediction is made of")
    told = parser.parse_args()
    if told.one:
        print(*measure(told.one[0], told.one[1], told.one[2], int(told.one[3])))
        return
    names = (
        "example",
        "what",
        "dtype",
        "batch",
        "predicted MB",
        "tensors MB",
        "of predicted",
        "resident MB",
        "of predicted",
    )
    print(f"| {' | '.join(names)} |")
    print("| --- " * len(names) + "|")
    for example in told.examples:
        for doing in told.doing:
            for dtype in told.dtypes:
                for batch in told.batches:
                    parts = predict(example, doing, dtype, batch)
                    said = sum(parts.values())
                    tensors, whole = in_a_process(example, doing, dtype, str(batch))
                    measured = (f"{each / 1e6:,.0f} | {each / said:.2f}" for each in (tensors, whole))
                    numbers = " | ".join((f"{said / 1e6:,.0f}", *measured))
                    print(f"| {example} | {doing} | {dtype} | {batch} | {numbers} |", flush=True)
                    if told.parts:
                        print("   ", {name: round(value / 1e6) for name, value in parts.items()}, flush=True)


if __name__ == "__main__":
    main()
