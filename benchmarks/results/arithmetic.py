"""Rows for `arithmetic.mas` from reasoning-gym's seeded generator `chain_sum` (Apache-2.0): sums and differences.

pip install reasoning-gym
python benchmarks/results/arithmetic.py --out FOLDER     # train.jsonl (2,000) and test.jsonl (200 others)
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def main() -> None:
    import reasoning_gym

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--terms", type=int, default=3)
    parser.add_argument("--digits", type=int, default=1)
    options = parser.parse_args()
    made = reasoning_gym.create_dataset(
        "chain_sum",
        seed=1,
        size=4000,
        min_terms=options.terms,
        max_terms=options.terms,
        min_digits=options.digits,
        max_digits=options.digits,
    )
    rows = list({item["question"]: str(item["answer"]) for item in made}.items())
    test, train = rows[:200], rows[200:2200]
    options.out.mkdir(parents=True, exist_ok=True)
    for name, part in (("train", train), ("test", test)):
        lines = [json.dumps({"question": question, "answer": answer}) + "\n" for question, answer in part]
        (options.out / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
        print(f"{name}.jsonl: {len(part)} rows, {part[0]} first")


if __name__ == "__main__":
    main()
