"""Questions about who has how many things, with a number as answer.

python data.py [--train 2000] [--test 200] [--seed 0]     # writes train.jsonl and test.jsonl beside this file
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

NAMES = ("Ann", "Ben", "Dan", "Jack", "John", "Mark", "Mary", "Max", "Paul", "Rose", "Sam", "Tom")
THINGS = ("apples", "books", "coins", "pens", "shells", "stamps", "stones")

Problem = tuple[str, int]


def problem(rng: random.Random) -> Problem:
    """Four people, a number from 2 to 40 for each, all different, and the question for one of them."""
    names, thing = rng.sample(NAMES, 4), rng.choice(THINGS)
    counts = dict(zip(names, rng.sample(range(2, 41), 4), strict=True))
    (first, count), *others = counts.items()
    said = ", ".join([f"{first} has {count} {thing}", *(f"{name} {count}" for name, count in others)])
    asked = rng.choice(names)
    return f"{said}. How many {thing} has {asked}?", counts[asked]


def problems(count: int, seed: int) -> list[Problem]:
    """Different problems."""
    rng = random.Random(seed)
    found: dict[str, int] = {}
    while len(found) < count:
        question, answer = problem(rng)
        found[question] = answer
    return list(found.items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=int, default=2000)
    parser.add_argument("--test", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    every = problems(options.train + options.test, options.seed)
    for name, part in (("train", every[options.test :]), ("test", every[: options.test])):
        path = Path(__file__).parent / f"{name}.jsonl"
        rows = [json.dumps({"question": question, "answer": answer}) for question, answer in part]
        path.write_text("\n".join(rows) + "\n", encoding="utf-8")
        print(f"{path.name}: {len(part)} rows")


if __name__ == "__main__":
    main()
