"""Errors of other libraries and of the system, in masc's words.

Each is translated where it arises, with the place and what to do. This is the last net, for those that got past: what
is said here is true, if less exact. What is not known here is a bug in masc.
"""

from __future__ import annotations

from masc.dsl.diagnostics import MascError, fail

_MEMORY = ("DefaultCPUAllocator", "can't allocate memory", "out of memory", "std::bad_alloc")


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


def out_of_memory(error: BaseException) -> bool:
    """Whether there was not enough memory. torch says it of the CPU with a plain RuntimeError."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _MEMORY)


def _first(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
