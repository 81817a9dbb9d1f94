"""How often the base model solves tasks of reasoning-gym as they are, to pick one that it solves in part.

pip install reasoning-gym
python benchmarks/results/pick.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

TEAM = '''mas 1
model small = "smollm2-135m"
agent solver on small {
  user """{question}
          End with the number alone."""
  answer (max_tokens = 48)
  adapt none
}
graph g(question) -> answer { solver }
'''


def one_digit(terms: int, digits: int = 1) -> dict[str, int]:
    return {"min_terms": terms, "max_terms": terms, "min_digits": digits, "max_digits": digits}


TASKS: tuple[tuple[str, dict[str, int]], ...] = (
    ("chain_sum", one_digit(2)),
    ("chain_sum", one_digit(2, 2)),
    ("chain_sum", one_digit(3)),
    ("leg_counting", {"min_animals": 2, "max_animals": 3, "min_instances": 1, "max_instances": 4}),
    ("products", one_digit(2)),
    ("gcd", {"max_value": 50}),
)


def main() -> None:
    import reasoning_gym

    import masc

    file = Path(tempfile.mkdtemp()) / "one.mas"
    file.write_text(TEAM)
    program: Any = masc.compile(file, dtype="bfloat16")
    for name, options in TASKS:
        made = reasoning_gym.create_dataset(name, size=48, seed=1, **options)
        rows = [{"question": item["question"], "answer": str(item["answer"])} for item in made]
        report = masc.evaluate(program, rows, "number", batch=24)
        print(f"{name} {options}: {report.accuracy:.0%} of 48, {report.tokens_decoded / 48:.0f} tokens an answer")


if __name__ == "__main__":
    main()
