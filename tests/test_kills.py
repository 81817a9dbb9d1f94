"""Training that is killed, terminated, interrupted or finds the disk full, at random moments, and is resumed: a handful
of what `benchmarks/kills.py` does."""

from __future__ import annotations

import random
from pathlib import Path

from warm import heavy

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "kills.py"


def test_a_handful_of_kills() -> None:
    seed = random.SystemRandom().randrange(10**6)
    done = heavy().call("--kills", 4, "--seed", seed, script=SCRIPT)
    assert done.returncode == 0, (done.stdout + done.stderr).decode()
    assert f"seed {seed}: 4 kills" in done.stdout.decode()
