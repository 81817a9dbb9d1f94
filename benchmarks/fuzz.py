"""Random programs through masc: nothing may raise, and what must be equal is.

    python benchmarks/fuzz.py texts --count 2000 --seed 0
    python benchmarks/fuzz.py graphs --count 200 --seed 0
    python benchmarks/fuzz.py graphs --seed 0 --only 17     # one of them again

Each kind of program is a module beside this one, with a function `run(count, seed)` that returns how many of the
programs failed, each of which it has printed. `run(count, seed, only)` runs one of them.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module

KINDS = {"texts": "mutants of files through the front end", "graphs": "random graphs through compiler and backend"}


def main() -> None:
    parser = argparse.ArgumentParser(description="Random programs through masc.")
    kinds = parser.add_subparsers(dest="kind", required=True)
    for kind, about in KINDS.items():
        options = kinds.add_parser(kind, help=about)
        options.add_argument("--count", type=int, default=1000, help="how many programs")
        options.add_argument("--seed", type=int, default=0)
        if kind == "graphs":
            options.add_argument("--only", type=int, help="the number of the one program to draw")
    chosen = parser.parse_args()
    only = getattr(chosen, "only", None)
    failed = import_module(f"fuzz_{chosen.kind}").run(chosen.count, chosen.seed, *([] if only is None else [only]))
    print(f"{chosen.kind}: {chosen.count if only is None else 1} programs of seed {chosen.seed}, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
