"""Rows for the courier: a code, and the same code as the answer. No test code is ever in the training rows.

python data.py [--kind words|digits] [--seed 0]     # writes train.jsonl and test.jsonl beside this file
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

ADJECTIVES = (
    "red blue green black white brown gold gray purple orange yellow dark bright wild soft cold "
    "warm sweet sharp quick slow quiet old young rich poor tall thin big small hot deep"
)
THINGS = (
    "cat dog bird fish horse bear wolf fox lion mouse tree rose stone river lake hill "
    "door chair table lamp book pen knife boat car train road house king queen moon star"
)
TEST = 200


def codes(kind: str) -> list[str]:
    """All codes there are: 1,024 pairs of words, or 1,000 numbers of three digits."""
    if kind == "digits":
        return [f"{number:03d}" for number in range(1000)]
    return [f"{adjective} {thing}" for adjective in ADJECTIVES.split() for thing in THINGS.split()]


def split(kind: str, seed: int) -> tuple[list[str], list[str]]:
    """Training codes and test codes: disjoint, and together all codes."""
    shuffled = codes(kind)
    random.Random(seed).shuffle(shuffled)
    return shuffled[TEST:], shuffled[:TEST]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", choices=("words", "digits"), default="words")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for name, part in zip(("train", "test"), split(options.kind, options.seed), strict=True):
        path = Path(__file__).parent / f"{name}.jsonl"
        path.write_text("".join(json.dumps({"code": code, "answer": code}) + "\n" for code in part), encoding="utf-8")
        print(f"{path.name}: {len(part)} rows, {part[0]!r} first")


if __name__ == "__main__":
    main()
