"""Names for the parts of a pass, which a profiler shows (`training/profile.py`). Without one they cost nothing."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from torch.profiler import record_function

Label = Callable[[str], AbstractContextManager[object]]
"""Within what it gives, a turn does work of that kind."""
PREFIX = "masc: "
"""Of a label's name in a trace; behind it kind and, if there is one, activation: `masc: prefill planner#1`."""


def unlabelled(kind: str) -> AbstractContextManager[object]:
    """Of a pass that nobody profiles."""
    return nullcontext()


def label_of(profiled: bool, activation: str = "") -> Label:
    """What names kinds of work, of a turn or of the whole step."""
    if not profiled:
        return unlabelled
    return lambda kind: record_function(f"{PREFIX}{kind} {activation}".rstrip())


def parts_of(name: str) -> tuple[str, str]:
    """Of a label's name: the activation ("": of the whole step) and the kind of work."""
    kind, _, activation = name.removeprefix(PREFIX).rpartition(" ")
    return (activation, kind) if "#" in activation else ("", name.removeprefix(PREFIX))
