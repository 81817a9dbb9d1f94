"""Rows for the meeting: four months in which Ann can come, four in which Bob can, and the one that is in both.

python data.py [--seed 0]     # writes train.jsonl and test.jsonl beside this file
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
TRAIN, TEST = 2000, 200


def row(generator: random.Random) -> dict[str, str]:
    """One row; whoever knows only one of the lists can do no better than to guess one of its four months."""
    both, *others = generator.sample(MONTHS, 7)
    ann, bob = [both, *others[:3]], [both, *others[3:]]
    generator.shuffle(ann)
    generator.shuffle(bob)
    return {"ann": ", ".join(ann), "bob": ", ".join(bob), "answer": both}


def rows(seed: int) -> list[dict[str, str]]:
    """Rows that all differ."""
    generator = random.Random(seed)
    found: dict[tuple[str, ...], dict[str, str]] = {}
    while len(found) < TRAIN + TEST:
        new = row(generator)
        found.setdefault((new["ann"], new["bob"]), new)
    return list(found.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    made = rows(options.seed)
    for name, part in (("train", made[:TRAIN]), ("test", made[TRAIN:])):
        path = Path(__file__).parent / f"{name}.jsonl"
        path.write_text("".join(json.dumps(one) + "\n" for one in part), encoding="utf-8")
        print(f"{path.name}: {len(part)} rows, {part[0]} first")


if __name__ == "__main__":
    main()
