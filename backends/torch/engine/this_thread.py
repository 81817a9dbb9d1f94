"""What holds of a program in one thread only, so that any number of threads may use one program at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from masc.backends.torch.engine.patches import Patches
from masc.backends.torch.engine.recorded import Recordings
from masc.compiler.ir.plan import Plan, Turn


@dataclass(frozen=True)
class Here:
    """plan: what runs in the place of the program's own. rounds: by activation and parameter, what it contributes to
    the gradient is noted there (None: nowhere). max_length: positions of one sample (0: the model's). patches: what
    agents send instead of what they would. quick: teacher-forced passes without gradients apply adapters as
    the fast engine does. profiled: kinds of work are named for a profiler. looked: what it makes of a walk and a turn
    surrounds what is computed of that turn, for whoever looks inside (`masc inspect`). recordings: activations that are
    trained are recorded there, and replayed."""

    plan: Plan | None = None
    rounds: dict[str, dict[str, Tensor]] | None = None
    max_length: int = 0
    patches: Patches | None = None
    quick: bool = False
    profiled: bool = False
    looked: Callable[[Any, Turn], AbstractContextManager[None]] | None = None
    recordings: Recordings | None = None


class Threads(threading.local):
    """now: what holds in the thread that asks. Of a copied program nothing holds."""

    now = Here()

    @contextmanager
    def holding(self, **changes: Any) -> Iterator[None]:
        """Within it, fields of `now` are others."""
        before = {name: getattr(self.now, name) for name in changes}
        self.now = replace(self.now, **changes)
        try:
            yield
        finally:
            self.now = replace(self.now, **before)

    def __deepcopy__(self, memo: dict[int, Any]) -> Threads:
        return Threads()


class Claim:
    """Of all threads one has it, and it has it once. A copied program has one of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    @contextmanager
    def taken(self, refusal: str) -> Iterator[None]:
        """ValueError, at once, where somebody has it."""
        if not self._lock.acquire(blocking=False):
            raise ValueError(refusal)
        try:
            yield
        finally:
            self._lock.release()

    def __deepcopy__(self, memo: dict[int, Any]) -> Claim:
        return Claim()
