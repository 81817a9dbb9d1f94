"""Fixtures that more than one folder of tests uses."""

from __future__ import annotations

import gc
import os
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads are slow beside other work
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # a core for each worker

import pytest

from support import make_model, make_other
from warm import close_all


def pytest_collection_finish() -> None:
    """Libraries and tests are there to the end: a collection of garbage need not look at them again, each time."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    close_all()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny untied Llama with a byte tokenizer; beside it lies `other` (see `make_other`)."""
    folder = tmp_path_factory.mktemp("models")
    make_other(folder / "other")
    return make_model(folder / "tiny")


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """The real model, fetched into the cache if it is not there (tests that use it are marked `model`)."""
    from masc.backends.torch.model.fetch import fetch

    return fetch("smollm2-135m")
