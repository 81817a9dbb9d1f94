"""Fixtures that more than one folder of tests uses."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Any

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


@pytest.fixture
def double_norms(monkeypatch: pytest.MonkeyPatch) -> None:
    """RMSNorm computes in float32 whatever comes in; where rounding would hide what is wrong let it stay in float64."""
    import torch
    from transformers.models.llama.modeling_llama import LlamaRMSNorm
    from transformers.models.qwen3.modeling_qwen3 import Qwen3RMSNorm

    def forward(self: Any, hidden: Any) -> Any:
        scale = torch.rsqrt(hidden.pow(2).mean(-1, keepdim=True) + self.variance_epsilon)
        return self.weight * hidden * scale

    monkeypatch.setattr(LlamaRMSNorm, "forward", forward)
    monkeypatch.setattr(Qwen3RMSNorm, "forward", forward)
