"""The process in which math-verify runs (see `mathematics.py`): a line of JSON in, a line out. It imports nothing of
masc, for it is started as a file."""

from __future__ import annotations

import json
import logging
import os
import resource
import sys

MEMORY = 2 << 30
"""Bytes."""


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    sys.set_int_max_str_digits(0)
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

    logging.disable(logging.CRITICAL)
    kinds = [LatexExtractionConfig(), ExprExtractionConfig()]
    answers.write("ready\n")
    answers.flush()
    for line in sys.stdin:
        said, gold = json.loads(line)
        right = False
        try:
            # Their time limits are signals, which need the main thread; ours is the end of this process.
            right = verify(
                parse(gold, kinds, parsing_timeout=None),
                parse(said, kinds, parsing_timeout=None),
                allow_set_relation_comp=True,  # -2 ≤ x ≤ 7 is [-2, 7]
                timeout_seconds=None,
            )
        except (Exception, MemoryError, RecursionError):  # whatever sympy raises, this is no right answer
            right = False
        answers.write(json.dumps(bool(right)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
