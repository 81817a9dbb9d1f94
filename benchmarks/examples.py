"""Every example trained as it is written, with several seeds, and scored on rows that were never trained on: whole, and
with an edge cut.

python benchmarks/examples.py [--only relay,panel] [--seeds 0,1,2] [--jobs 1] [--device cuda] [--out build/examples]

Nothing but masc's own commands is run, each in a process of its own, so many chains of them at once as `--jobs` says.
What is there already is not done again, and a training that was stopped goes on: call it once more with the same
folder. Prints a table.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "examples"


@dataclass(frozen=True)
class Example:
    """data: the example whose rows it has; cut: the edge that is cut; scorer: of `masc eval`."""

    name: str
    data: str
    cut: str
    scorer: str = "exact"


EXAMPLES = (
    Example("courier", "courier", "sender:receiver"),
    Example("meeting", "meeting", "left:right"),
    Example("panel", "panel", "painter:summariser"),
    Example("relay", "relay", "refiner:solver", "number"),
    Example("debate", "relay", "critic:solver", "number"),
    Example("fusion", "relay", "reader:solver", "number"),
    Example("telegram", "courier", "sender:receiver"),
    Example("duet", "courier", "sender:receiver"),
)


@dataclass
class Bench:
    """out: where artifacts, scores and logs are; rest: of every command that runs a model; said: while a line is
    printed."""

    out: Path
    rest: Sequence[str]
    said: threading.Lock = field(default_factory=threading.Lock)

    def run(self, log: str, *arguments: str) -> None:
        """One of masc's commands. What it prints is added to a log. RuntimeError where it fails."""
        environment = {"OMP_NUM_THREADS": "1", **os.environ}
        with (self.out / f"{log}.log").open("a") as file:
            print("$ masc", *arguments, file=file, flush=True)
            done = subprocess.run(
                [sys.executable, "-m", "masc", *arguments], stdout=file, stderr=subprocess.STDOUT, env=environment
            )
        if done.returncode:
            raise RuntimeError(f"masc {' '.join(arguments)} gave {done.returncode}: see {self.out / log}.log")

    def say(self, text: str) -> None:
        with self.said:
            print(text, flush=True)

    def train(self, example: Example, seed: int) -> None:
        name = f"{example.name}-{seed}"
        artifact = self.out / f"{name}.masc"
        if not artifact.exists():
            self.run(name, "compile", str(FOLDER / example.name), "-o", str(artifact), "--set", f"seed={seed}")
        if not (self.out / f"{name}.trained").exists():
            rows = FOLDER / example.data
            given = ["--data", str(rows / "train.jsonl"), "--eval-data", str(rows / "test.jsonl")]
            again = ["--resume"] if (artifact / "checkpoints").exists() else []
            self.run(name, "train", str(artifact), *given, *again, *self.rest)
            (self.out / f"{name}.trained").touch()

    def score(self, example: Example, seed: int, what: str, *options: str) -> dict[str, Any]:
        """The report of `masc eval` on all rows to test on."""
        path = self.out / f"{example.name}-{seed}.{what}.json"
        if not path.exists():
            artifact = self.out / f"{example.name}-{seed}.masc"
            rows = ["--data", str(FOLDER / example.data / "test.jsonl"), "--scorer", example.scorer]
            part = path.with_name(path.name + ".part")
            self.run(f"{example.name}-{seed}", "eval", str(artifact), *rows, "--out", str(part), *options, *self.rest)
            part.replace(path)
        report: dict[str, Any] = json.loads(path.read_text())
        return report

    def all_of(self, example: Example, seed: int) -> bool:
        """Train and score. False, and why is said: something failed."""
        began = time.perf_counter()
        try:
            self.train(example, seed)
            trained = time.perf_counter() - began
            whole = self.score(example, seed, "whole")["accuracy"]
            cut = self.score(example, seed, "cut", "--cut", example.cut)["accuracy"]
        except Exception as error:  # the others go on
            self.say(f"{example.name}, seed {seed}: {type(error).__name__}: {error}")
            return False
        took = time.perf_counter() - began
        self.say(
            f"{example.name}, seed {seed}: {whole:.1%} right, {cut:.1%} with {example.cut} cut"
            f" [{trained:.0f} s of training, {took:.0f} s in all]"
        )
        return True

    def found(self, example: Example, seeds: Sequence[int], what: str) -> list[float | None]:
        """The accuracy of each seed; None: it is not there yet."""
        paths = [self.out / f"{example.name}-{seed}.{what}.json" for seed in seeds]
        return [json.loads(path.read_text())["accuracy"] if path.exists() else None for path in paths]


def table(bench: Bench, examples: Sequence[Example], seeds: Sequence[int]) -> str:
    lines = ["| example | right, seed by seed | mean | with an edge cut | edge |", "| --- | --- | ---: | --- | --- |"]
    for example in examples:
        whole, cut = (bench.found(example, seeds, what) for what in ("whole", "cut"))
        known = [one for one in whole if one is not None]
        first, second = (", ".join("-" if one is None else f"{one:.1%}" for one in some) for some in (whole, cut))
        mean = f"{statistics.mean(known):.1%}" if known else "-"
        lines.append(f"| {example.name} | {first} | {mean} | {second} | {example.cut} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(one.name for one in EXAMPLES), help="which examples")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--jobs", type=int, default=1, help="so many at once")
    parser.add_argument("--device", help="of masc's commands")
    parser.add_argument("--out", type=Path, default=Path("build/examples"))
    options = parser.parse_args()
    names, seeds = options.only.split(","), [int(seed) for seed in options.seeds.split(",")]
    examples = [one for one in EXAMPLES if one.name in names]
    if unknown := set(names) - {one.name for one in EXAMPLES}:
        parser.error(f"there is no example {', '.join(sorted(unknown))}")
    options.out.mkdir(parents=True, exist_ok=True)
    bench = Bench(options.out, [] if options.device is None else ["--device", options.device])
    with ThreadPoolExecutor(options.jobs) as pool:
        done = [pool.submit(bench.all_of, example, seed) for seed in seeds for example in examples]
    print(f"\n{table(bench, examples, seeds)}")
    sys.exit(not all(one.result() for one in done))


if __name__ == "__main__":
    main()
