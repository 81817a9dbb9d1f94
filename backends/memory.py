"""Whether memory has run out, which every library says in another way."""

from __future__ import annotations

_SIGNS = ("DefaultCPUAllocator", "can't allocate memory", "out of memory", "bad_alloc")


def out_of_memory(error: BaseException) -> bool:
    """Whether there was not enough memory, on a GPU or on the CPU, of which torch says no more than RuntimeError."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)
