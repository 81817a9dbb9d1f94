"""How fast masc is, as ratios to plain loops in one process: `python benchmarks/speed.py`.

Every bar of `speed_bars.py` is measured and printed as a row of a table as soon as it is there: the median of its
pairs, their range, and what it should be. Both sides of a pair are timed one behind the other, in turn.

    python benchmarks/speed.py --threads 2 --json speed.json    # all; what is in speed.json already is not done again
    python benchmarks/speed.py --only decode-8 --pairs 9
    python benchmarks/speed.py --toy                            # a tiny model: whether the script runs, no figures

What is compared with what, and what was found: docs/speed.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from speed_bars import BARS, FULL, SMALL, Bar, Bench, Found

from masc.version import __version__

ROOT = Path(__file__).resolve().parents[1]
CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}


def setting(toy: bool, pairs: int) -> dict[str, Any]:
    """All that figures depend on beside the machine's other work."""
    return {
        "machine": processor(),
        "threads": torch.get_num_threads(),
        "masc": f"{__version__} {commit()}".strip(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "peft": peft.__version__,
        "shape": (SMALL if toy else FULL).shape.name,
        "pairs": pairs,
    }


def commit() -> str:
    """The last commit that changed what is measured; `+`: it has been changed since. Empty outside of a clone."""
    if shutil.which("git") is None:
        return ""
    code = ("--", "backends", "compiler", "dsl", "masc")
    last, changed = (
        subprocess.run(["git", *command, *code], cwd=ROOT, capture_output=True, text=True).stdout.strip()
        for command in (("log", "-1", "--format=%h"), ("status", "--porcelain"))
    )
    return last + "+" * bool(changed)


def processor() -> str:
    """The processor's name and how many cores there are."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {os.cpu_count()} cores"


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.2f}"


def line(name: str, bar: Bar, row: Mapping[str, Any]) -> str:
    """A row of the table."""
    spread = f" ({number(row['low'])} to {number(row['high'])})" if row["low"] != row["high"] else ""
    aim = f"at {'least' if bar.most else 'most'} {number(bar.aim)}{'' if bar.reached(row['median']) else ': missed'}"
    parts = ", ".join(f"{part} {number(value)}" for part, value in row["parts"].items())
    return f"| `{name}` | {bar.measured} | {bar.against} | {number(row['median'])}{spread} | {aim} | {parts} |"


def as_row(found: Found, setting: Mapping[str, Any]) -> dict[str, Any]:
    ends = (found.parts.get("lowest", min(found.values)), found.parts.get("highest", max(found.values)))
    parts = {name: value for name, value in found.parts.items() if name not in {"lowest", "highest"}}
    return {
        "median": found.median,
        "low": ends[0],
        "high": ends[1],
        "values": found.values,
        "parts": parts,
        "of": setting,
    }


def known(path: Path | None) -> dict[str, Any]:
    """The rows of an earlier run."""
    if path is None or not path.exists():
        return {}
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def keep(path: Path | None, found: Mapping[str, Any]) -> None:
    if path is None:
        return
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    part.replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", default=[], choices=BARS, metavar="NAME", help=", ".join(BARS))
    parser.add_argument("--pairs", type=int, default=5, help="how often each comparison is timed (5)")
    parser.add_argument("--threads", type=int, help="torch's threads (torch's own choice)")
    parser.add_argument(
        "--clock",
        choices=CLOCKS,
        default="wall",
        help="processor: the time that the process computes, which other work changes little; for one thread",
    )
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16", help="of models (bfloat16)")
    parser.add_argument("--json", type=Path, help="keep what is found here; what is there is not measured again")
    parser.add_argument("--toy", action="store_true", help="a tiny model, two pairs")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore")
    transformers.utils.logging.disable_progress_bar()
    pairs = 2 if options.toy else options.pairs
    of = {**setting(options.toy, pairs), "clock": options.clock, "dtype": options.dtype}
    print("; ".join(f"{name} {value}" for name, value in of.items()), file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        sizes, dtype = SMALL if options.toy else FULL, getattr(torch, options.dtype)
        bench = Bench(sizes, pairs, Path(folder), CLOCKS[options.clock], dtype)
        measure(bench, [name for name in BARS if name in options.only or not options.only], of, options.json)


def measure(bench: Bench, names: Sequence[str], of: Mapping[str, Any], kept: Path | None) -> None:
    """Print the table, row by row; what is kept of the same setting is not measured again."""
    print("| bar | measured | against | found, median (range) | aim | made of |\n| --- | --- | --- | --- | --- | --- |")
    rows = known(kept)
    for name in names:
        if rows.get(name, {}).get("of") != of:
            rows[name] = as_row(BARS[name].measure(bench), of)
            keep(kept, rows)
        print(line(name, BARS[name], rows[name]), flush=True)


if __name__ == "__main__":
    main()
