"""The code scorer: whether what a model wrote passes its row's tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from masc.backends.scoring.choose_sandbox import sandbox_of
from masc.backends.scoring.code_run import SECONDS, run
from masc.backends.scoring.code_text import code_of, tests_of


def passes(said: str, row: Mapping[str, Any], sandbox: str = "auto", seconds: int = SECONDS) -> bool:
    """Whether the code of an answer passes the tests of its row. E0660 where there are no walls to run it behind."""
    walls = sandbox_of(sandbox)
    code = code_of(said, row)
    if code is None:
        return False
    tests = tests_of(row)
    return run(walls, code, tests.before, tests.tests, tests.wanted, tests.needed, seconds)
