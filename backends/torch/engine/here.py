"""What holds of a program in one thread only, so that any number of threads may use one program at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn

if TYPE_CHECKING:
    from masc.backends.torch.engine.trace import Patches
    from masc.compiler.ir.plan import Plan


@dataclass
class Here:
    """plan: what runs in the place of the program's own. rounds: by activation and parameter, what it contributes to
    the gradient (None: it is not noted). max_length: positions of one sample (0: the model's). patches: what agents
    send instead of what they would."""

    plan: Plan | None = None
    rounds: dict[str, dict[str, Tensor]] | None = None
    max_length: int = 0
    patches: Patches | None = None


class _Threads(threading.local):
    def __init__(self) -> None:
        self.programs: WeakKeyDictionary[nn.Module, Here] = WeakKeyDictionary()


_THREADS = _Threads()


def here(program: nn.Module) -> Here:
    """What holds of a program in this thread."""
    found = _THREADS.programs.get(program)
    if found is None:
        found = _THREADS.programs[program] = Here()
    return found


@contextmanager
def holding(program: nn.Module, **changes: Any) -> Iterator[None]:
    """Within it, fields of `here` are others."""
    own = here(program)
    before = {name: getattr(own, name) for name in changes}
    for name, value in changes.items():
        setattr(own, name, value)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(own, name, value)
