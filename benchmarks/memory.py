"""How much memory a training step takes beside what stays, masc against a hand-written loop:
`python benchmarks/memory.py`.

Four agents one behind the other on SmolLM2's shape, ten latent steps each but the last, prompts of 50 positions,
answers of 17 tokens, in float32. Each way runs in a process of its own, which is watched every few milliseconds: what
is told is the most that it holds during steps, less what it holds between two of them. The bar: with `checkpoint agent`
half of the hand-written loop's. `--toy`: a tiny model, to try the script.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch
import transformers
from handwritten import HandWrittenRelay
from random_models import SMOLLM2, TOY, write_model
from random_teams import chain, program, rows

import masc

WAYS = {"hand": "hand-written, plain transformers and PEFT", "none": "masc", "agent": "masc, `checkpoint agent`"}
AGENTS, POSITIONS, LATENTS, ANSWER = 4, 50, 10, 16
LARGE = 1 << 16
"""From so many bytes on, memory that is freed goes back to the system at once: else nothing could be seen of it."""
STEPS = 3


class Peak:
    """The most bytes that this process holds above those that it held when watching began."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        gc.collect()
        _libc().malloc_trim(0)
        self.rest = self.most = self._process.memory_info().rss

    @contextmanager
    def watched(self) -> Iterator[None]:
        done = threading.Event()

        def watch() -> None:
            while not done.wait(0.003):
                self.most = max(self.most, self._process.memory_info().rss)

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def _libc() -> Any:
    return ctypes.CDLL("libc.so.6")


def by_hand(model: Path, batch: int) -> float:
    """Megabytes of the hand-written loop."""
    made = HandWrittenRelay(model, torch.float32, AGENTS, LATENTS, 16)
    generator = torch.Generator().manual_seed(0)
    prompts = [torch.randint(8, 500, (batch, POSITIONS), generator=generator) for _ in range(AGENTS)]
    answer = torch.randint(8, 500, (batch, ANSWER + 1), generator=generator)
    made.train_step(prompts, answer)
    peak = Peak()
    with peak.watched():
        for _ in range(STEPS - 1):
            made.train_step(prompts, answer)
    return (peak.most - peak.rest) / 1e6


def by_masc(folder: Path, model: Path, batch: int, checkpoint: str) -> float:
    """Megabytes of `masc.train`."""
    made = program(folder, chain(model, AGENTS, POSITIONS, LATENTS, answer=ANSWER), dtype="float32")
    given = rows(batch, ANSWER)
    found: list[Peak] = []
    with ExitStack() as watching:

        def listen(metrics: Mapping[str, Any]) -> None:
            if metrics["step"] == 1:
                found.append(Peak())
                watching.enter_context(found[0].watched())

        masc.train(made, given, steps=STEPS, batch=batch, rate=1e-5, checkpoint=checkpoint, listen=listen)
    return (found[0].most - found[0].rest) / 1e6


def one(way: str, batch: int, toy: bool) -> float:
    _libc().mallopt(-3, LARGE)  # M_MMAP_THRESHOLD
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    transformers.utils.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        model = write_model(folder / "model", TOY if toy else SMOLLM2, torch.float32)
        return by_hand(model, batch) if way == "hand" else by_masc(folder, model, batch, way)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--toy", action="store_true")
    parser.add_argument("--way", choices=WAYS, help="one of them, in this process; prints megabytes")
    options = parser.parse_args()
    if options.way is not None:
        print(one(options.way, options.batch, options.toy))
        return
    found: dict[str, float] = {}
    print(f"| a training step, batch {options.batch} | MB | of the hand-written loop's |\n| --- | ---: | ---: |")
    for way, said in WAYS.items():
        call = [sys.executable, __file__, "--batch", str(options.batch), "--way", way]
        done = subprocess.run([*call, *["--toy"] * options.toy], check=True, capture_output=True, text=True)
        found[way] = float(done.stdout.split()[-1])
        print(f"| {said} | {found[way]:,.0f} | {found[way] / found['hand']:.2f} |", flush=True)


if __name__ == "__main__":
    began = time.monotonic()
    main()
    print(f"{time.monotonic() - began:.0f} s", file=sys.stderr)
