"""Training that is killed, terminated, interrupted or finds the disk full, at random moments, and is resumed: a handful
of what `benchmarks/kills.py` does."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "kills.py"


def test_a_handful_of_kills() -> None:
    seed = random.SystemRandom().randrange(10**6)
    done = subprocess.run([sys.executable, SCRIPT, "--kills", "4", "--seed", str(seed)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"seed {seed}: 4 kills" in done.stdout
