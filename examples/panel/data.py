"""Rows for the panel: three clues, each for one expert alone, and the one thing that fits all three.

python data.py [--train 1000] [--test 200] [--seed 0]     # writes train.jsonl and test.jsonl beside this file
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
from pathlib import Path

SIZES = ("small", "large")
COLOURS = ("red", "green", "blue", "black")
SHAPES = ("ball", "cube", "ring", "star", "cone")
WAYS = {
    "size": ("The thing is {}.", "It is {}.", "It looks {} to me.", "Its size: {}."),
    "colour": ("The thing is {}.", "It is painted {}.", "I see {}.", "Its colour: {}."),
    "shape": ("The thing is a {}.", "It feels like a {}.", "Someone left a {}.", "Its shape: {}."),
}
WITNESSES = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gita", "Hugo")


def rows(count: int, seed: int) -> list[dict[str, str]]:
    """Different rows: who said it and how varies, and none of the three clues tells another's part."""
    rng = random.Random(seed)
    things = list(itertools.product(SIZES, COLOURS, SHAPES))
    found: dict[tuple[str, ...], dict[str, str]] = {}
    while len(found) < count:
        thing = rng.choice(things)
        clues = {
            f"{part}_clue": f"{rng.choice(WITNESSES)} says: {rng.choice(WAYS[part]).format(word)}"
            for part, word in zip(WAYS, thing, strict=True)
        }
        found[tuple(clues.values())] = {**clues, "answer": " ".join(thing)}
    return list(found.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=int, default=1000)
    parser.add_argument("--test", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    every = rows(options.train + options.test, options.seed)
    for name, part in (("train", every[options.test :]), ("test", every[: options.test])):
        path = Path(__file__).parent / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in part), encoding="utf-8")
        print(f"{path.name}: {len(part)} rows")


if __name__ == "__main__":
    main()
