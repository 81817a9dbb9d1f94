"""The weights that training began with, for an objective that looks at them: beside the checkpoints of a run, so that
one that goes on looks at the same."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from masc.backends.torch.training.disk import writing
from masc.compiler.files.writing import atomic_write
from masc.dsl.diagnostics import fail

NAME = "start.safetensors"
KEY = "start"
"""Where a checkpoint's state has the file's sha256."""


def keep(folder: Path | None, parameters: Mapping[str, nn.Parameter]) -> tuple[dict[str, Tensor], str]:
    """A copy of the weights, written into the folder of checkpoints (None: nowhere), and its sha256. E0703."""
    kept = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    data = save({name: tensor.cpu().contiguous() for name, tensor in kept.items()})
    if folder is not None:
        with writing("the weights that training begins with"):
            folder.mkdir(parents=True, exist_ok=True)
            atomic_write(folder / NAME, data)
    return kept, hashlib.sha256(data).hexdigest()


def read(folder: Path, state: Mapping[str, Any], parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """Those of a run that goes on, by the state of its checkpoint. E0608 where they are not what was written."""
    path = folder / NAME
    try:
        data = path.read_bytes()
        found = load(data) if hashlib.sha256(data).hexdigest() == state.get(KEY) else {}
    except (OSError, SafetensorError, ValueError):
        found = {}
    if found.keys() != parameters.keys():
        message = f"`{path}`, the weights that training began with, is not there as it was written"
        raise fail("E0608", message, hint="put the file back, or start over with --force")
    return {name: found[name].to(parameter.device) for name, parameter in parameters.items()}
