"""What several tests of artifacts need."""

from __future__ import annotations

import os

import pytest


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is on the disk after the power fails is not tested here, and waiting for it takes most of the time."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr("masc.compiler.artifact.read._MOMENT", 0.02)
