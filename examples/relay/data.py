"""Arithmetic word problems of one to three steps, with their numbers as answers.

python data.py [--train 2000] [--test 200] [--seed 0]     # writes train.jsonl and test.jsonl beside this file
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable
from pathlib import Path

NAMES = ("Ada", "Ben", "Dan", "Eva", "Finn", "Gita", "Hugo", "Ines", "Jack", "Kira", "Leo", "Mona", "Olga", "Paul")
THINGS = ("apples", "books", "coins", "pens", "shells", "stamps", "stones")

Problem = tuple[str, int]


def shop(rng: random.Random) -> Problem:
    """One step: a price."""
    name, thing, count, price = rng.choice(NAMES), rng.choice(THINGS), rng.randint(2, 12), rng.randint(2, 12)
    return f"{name} buys {count} {thing} at {price} dollars each. How much is that?", count * price


def give(rng: random.Random) -> Problem:
    """Two steps: more, then less."""
    (name, other), thing = rng.sample(NAMES, 2), rng.choice(THINGS)
    start, found = rng.randint(5, 40), rng.randint(2, 30)
    given = rng.randint(1, start + found - 1)
    question = f"{name} has {start} {thing}, finds {found} and gives {given} to {other}. How many are left?"
    return question, start + found - given


def change(rng: random.Random) -> Problem:
    """Two steps: a price, then the change."""
    name, thing, count, price = rng.choice(NAMES), rng.choice(THINGS), rng.randint(2, 9), rng.randint(2, 9)
    note = rng.choice([note for note in (20, 50, 100) if note > count * price])
    question = f"{name} pays {count} {thing} at {price} dollars each with a {note} dollar note. How much comes back?"
    return question, note - count * price


def share(rng: random.Random) -> Problem:
    """Two steps: all together, then equal parts."""
    (one, two), thing = rng.sample(NAMES, 2), rng.choice(THINGS)
    bags, each = rng.randint(2, 8), rng.randint(3, 15)
    first = rng.randint(1, bags * each - 1)
    return f"{one} has {first} {thing} and {two} {bags * each - first}, in {bags} equal bags. How many in one?", each


def week(rng: random.Random) -> Problem:
    """Three steps: a difference, a product and what comes back."""
    (one, two), thing = rng.sample(NAMES, 2), rng.choice(THINGS)
    days, slow, more = rng.randint(2, 7), rng.randint(2, 9), rng.randint(1, 6)
    back = rng.randint(1, more * days)
    question = f"{one} sells {slow + more} {thing} a day, {two} {slow}, for {days} days. {one} gets {back} back."
    return f"{question} How many more did {one} sell?", more * days - back


TEMPLATES: tuple[Callable[[random.Random], Problem], ...] = (shop, give, change, share, week)


def problems(count: int, seed: int) -> list[Problem]:
    """Different problems; their answers are whole numbers from 0."""
    rng = random.Random(seed)
    found: dict[str, int] = {}
    while len(found) < count:
        question, answer = rng.choice(TEMPLATES)(rng)
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
