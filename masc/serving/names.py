"""Names and numbers that are drawn for requests. Nothing secret hangs on them; the system's own randomness would make
the event loop give up the interpreter for each."""

from __future__ import annotations

import random

_DRAWS = random.Random()


def fresh_id() -> str:
    """A name that nothing else has: 32 hexadecimal digits."""
    return f"{_DRAWS.getrandbits(128):032x}"


def fresh_seed() -> int:
    return _DRAWS.getrandbits(31)
