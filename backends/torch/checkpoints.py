"""Checkpoints that survive being killed: written to a temporary name, then renamed; the newest whole one counts.

`step-000040/` holds `weights.safetensors` (adapters and links), `optimizer.safetensors` (AdamW's moments) and
`state.json`. Nothing else is needed: the order of the data, the rate and all randomness are functions of the seed
and the step.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from masc.dsl.diagnostics import fail

_MOMENTS = ("exp_avg", "exp_avg_sq", "step")


def save(
    folder: Path,
    step: int,
    parameters: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    state: dict[str, Any],
    keep: int,
) -> Path:
    """Write the checkpoint of a step below `folder` and drop all but the newest `keep` (at least 1)."""
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob(".tmp-*"):
        shutil.rmtree(stale, ignore_errors=True)
    temporary = folder / f".tmp-{os.getpid()}"
    temporary.mkdir()
    save_file({n: p.detach().cpu().contiguous() for n, p in parameters.items()}, temporary / "weights.safetensors")
    moments: dict[str, Tensor] = {}
    for name, parameter in parameters.items():
        for key in _MOMENTS:
            if parameter in optimizer.state:  # a parameter that never had a gradient has no state
                moments[f"{name}:{key}"] = optimizer.state[parameter][key].detach().cpu().contiguous()
    save_file(moments, temporary / "optimizer.safetensors")
    (temporary / "state.json").write_text(json.dumps({"step": step, **state}, indent=1))
    for file in temporary.iterdir():
        with file.open("rb") as handle:
            os.fsync(handle.fileno())
    final = folder / f"step-{step:06d}"
    if final.exists():
        shutil.rmtree(final)
    temporary.rename(final)
    for old in _all(folder)[: -max(1, keep)]:
        shutil.rmtree(old)
    return final


def _all(folder: Path) -> list[Path]:
    found = [p for p in folder.glob("step-*") if (p / "state.json").is_file() and p.name[5:].isdigit()]
    return sorted(found, key=lambda p: int(p.name[5:]))


def newest(folder: Path) -> Path | None:
    """The checkpoint with the highest step, or None."""
    found = _all(folder)
    return found[-1] if found else None


def read_state(path: Path) -> dict[str, Any]:
    try:
        state = json.loads((path / "state.json").read_text())
        assert isinstance(state["step"], int)
    except Exception as error:
        raise fail(
            "E0608", f"the checkpoint {path} is broken: {error}", hint="delete it to use the one before"
        ) from None
    return dict(state)


@torch.no_grad()
def load(path: Path, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    """Put weights and moments back. E0608 if the files are broken or of another plan."""
    try:
        weights = load_file(path / "weights.safetensors")
        moments = load_file(path / "optimizer.safetensors")
        if set(weights) != set(parameters):
            raise ValueError("it holds other adapters than this graph has")
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])
            if f"{name}:step" in moments:
                state = {key: moments[f"{name}:{key}"] for key in _MOMENTS}
                optimizer.state[parameter] = {
                    key: tensor.clone() if key == "step" else tensor.to(parameter.device)
                    for key, tensor in state.items()
                }
    except Exception as error:
        raise fail("E0608", f"the checkpoint {path} cannot be used: {error}") from None
