"""Errors of other libraries and of the system, in masc's words.

Each is translated where it arises, with the place and what to do. This is the last net, for those that got past: what
is said here is true, if less exact. What is not known here is a bug in masc.
"""

from __future__ import annotations

from masc.backends.memory import out_of_memory
from masc.dsl.diagnostics import MascError, fail, first_line


def translated(error: BaseException) -> MascError | None:
    """What a foreign error means to the user; None where only masc itself can be to blame."""
    if isinstance(error, MascError):
        return error
    if out_of_memory(error):
        hint = "lower `batch`, or write `checkpoint agent` in the `train` block"
        return fail("E0702", "there is not enough memory", hint=hint)
    if isinstance(error, OSError):
        where = "" if error.filename is None else f"`{error.filename}`: "
        return fail("E0622", f"{where}{error.strerror or error}")
    if type(error).__name__ == "SafetensorError":
        return fail("E0622", f"weights cannot be read or written: {_first(error)}", hint="is the disk full?")
    return None


def _first(error: BaseException) -> str:
    return first_line(error)[:300]
