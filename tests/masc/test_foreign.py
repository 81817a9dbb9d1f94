"""What other libraries raise is said in masc's words; a bug in masc is one in masc."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from courier import Command
from masc.backends.memory import out_of_memory
from masc.terminal.foreign import translated


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "x"), "E0622"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), "E0622"),
        (MemoryError(), "E0702"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"), "E0702"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "E0702"),
        (SafetensorError("Error while serializing: I/O error: No space left on device"), "E0622"),
    ],
)
def test_foreign_errors(error: Exception, code: str) -> None:
    told = translated(error)
    assert told is not None
    assert [d.code for d in told.diagnostics] == [code]


def test_a_real_lack_of_memory_is_known() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 62, dtype=torch.uint8)
    assert out_of_memory(caught.value)


@pytest.mark.parametrize("error", [KeyError("x"), RuntimeError("shapes differ"), IndexError("7")])
def test_a_bug_stays_one(error: Exception) -> None:
    assert translated(error) is None


def test_an_output_that_is_an_activation(masc: Command, folder: Path) -> None:
    for name in ("receiver#1", "sender#1", "answr"):
        refused = masc("eval", "--output", name)
        assert (refused.code, "E0611" in refused.err, "internal" in refused.err) == (1, True, False)
