"""Checkpoints that survive being killed: written to a temporary name, then renamed; the newest whole one counts.

`step-000040/` holds `weights.safetensors` (adapters and links), `optimizer.safetensors` (AdamW's moments), `state.json`
(the step, what the run belongs to, its settings) and `SHA256SUMS`, which `sha256sum -c` reads too. Nothing else is
needed: the order of the data, the rate and all randomness are functions of the seed and the step.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from masc.backends.torch.training.disk import writing
from masc.dsl.diagnostics import fail

FORMAT = 3
"""Of `state.json`. 1 had no number: it knew neither checksums nor what it belonged to."""
_SUMS = "SHA256SUMS"
_FILES = ("weights.safetensors", "optimizer.safetensors", "state.json")
_MOMENTS = ("exp_avg", "exp_avg_sq", "step")
_NAME = re.compile(r"step-([0-9]{6,15})")


@dataclass(frozen=True)
class Checkpoint:
    """A whole one, read. state: `state.json`; moments: by `parameter:moment`."""

    path: Path
    step: int
    state: Mapping[str, Any]
    weights: Mapping[str, Tensor]
    moments: Mapping[str, Tensor]


class DamagedError(Exception):
    """Internal to reading: a checkpoint is not whole; the text says why."""


# -- writing ----------------------------------------------------------------------------------------------------------


def write(
    folder: Path,
    step: int,
    parameters: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    state: Mapping[str, Any],
    keep: int,
) -> Path:
    """Write the checkpoint of a step below `folder` and drop all but the newest `keep` (at least 1).

    Errors: E0701 where a weight or a moment is not a finite number (what is there stays), E0703 where the disk is full.
    """
    weights = {name: _kept(parameter) for name, parameter in parameters.items()}
    moments = {
        f"{name}:{key}": _kept(optimizer.state[parameter][key])
        for name, parameter in parameters.items()
        for key in _MOMENTS
        if parameter in optimizer.state  # one that never had a gradient has no state
    }
    if lost := [name for name, tensor in {**weights, **moments}.items() if not _finite(tensor)]:
        message = f"the weights are no longer numbers after step {step} ({lost[0]})"
        raise fail("E0701", message, hint="lower `rate`, and go on with --resume from the last checkpoint")
    contents = {
        "weights.safetensors": save(weights),
        "optimizer.safetensors": save(moments),
        "state.json": json.dumps({"format": FORMAT, "step": step, **state}, indent=1).encode(),
    }
    sums = "".join(f"{_sum(data)}  {name}\n" for name, data in contents.items())
    final = folder / f"step-{step:06d}"
    with writing(f"the checkpoint of step {step}"):
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
        temporary = folder / f".tmp-{os.getpid()}"
        try:
            temporary.mkdir()
            for name, data in {**contents, _SUMS: sums.encode()}.items():
                with (temporary / name).open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
            remove(final)
            temporary.rename(final)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        for old in [path for path in every(folder) if step_of(path) <= step][: -max(1, keep)]:
            remove(old)
    return final


def _kept(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous()


def _finite(tensor: Tensor) -> bool:
    return bool(tensor.isfinite().all())


def _sum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def remove(path: Path) -> None:
    """Take a checkpoint away, in one step as far as its name goes: half of it is never found under that name."""
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    aside = path.with_name(f".tmp-old-{os.getpid()}-{path.name}")
    path.rename(aside)
    try:
        shutil.rmtree(aside)
    except BaseException:  # stopped in the middle of it: half of it is of no use to anybody
        shutil.rmtree(aside, ignore_errors=True)
        raise


def sweep(folder: Path) -> None:
    """Take away what runs that were killed have left half-written."""
    for stale in folder.glob(".tmp-*"):
        shutil.rmtree(stale, ignore_errors=True)


# -- reading ----------------------------------------------------------------------------------------------------------


def every(folder: Path) -> list[Path]:
    """Whatever bears the name of a checkpoint, by its step."""
    return sorted((path for path in folder.glob("step-*") if _NAME.fullmatch(path.name)), key=step_of)


def step_of(path: Path) -> int:
    """The step that a checkpoint's name says."""
    return int(path.name.removeprefix("step-"))


def newest(folder: Path) -> tuple[Checkpoint | None, dict[Path, str]]:
    """The newest whole checkpoint of a folder, and the newer ones that are damaged, each with what is wrong with it.

    E0608 where there are checkpoints and all are damaged, or where another version of masc wrote the newest.
    """
    damaged: dict[Path, str] = {}
    for path in reversed(every(folder)):
        try:
            return read(path), damaged
        except DamagedError as error:
            damaged[path] = str(error)
    if damaged:
        path, why = next(iter(damaged.items()))
        others = f", and so are the {len(damaged) - 1} before it" if len(damaged) > 1 else ""
        message = f"the checkpoint `{path}` is damaged: {why}{others}"
        raise fail("E0608", message, hint="put the file back, or start over with --force")
    return None, {}


def read(path: Path) -> Checkpoint:
    """A checkpoint whose files are those that were written. DamagedError, or E0608 for another version's."""
    try:
        contents = {name: (path / name).read_bytes() for name in _FILES if (path / name).is_file()}
        sums = (path / _SUMS).read_bytes() if (path / _SUMS).is_file() else None
    except OSError as error:
        raise DamagedError(str(error.strerror or error)) from None
    for name in _FILES:
        if name not in contents:
            raise DamagedError(f"it has no file {name}")
    expected = None if sums is None else _sums(sums)
    if expected is not None:
        for name, data in contents.items():
            if expected.get(name) != _sum(data):
                raise DamagedError(f"{name} is not as it was written")
    state = _state(contents["state.json"])
    if state.get("format") != FORMAT:
        said = f"has format {state['format']!r}" if "format" in state else "is of an earlier version of masc"
        message = f"the checkpoint `{path}` {said}, and this version reads format {FORMAT}"
        raise fail("E0608", message, hint="finish with the version that wrote it, or start over with --force")
    if expected is None:
        raise DamagedError(f"it has no file {_SUMS}")
    if state.get("step") != step_of(path) or path.name != f"step-{step_of(path):06d}":
        raise DamagedError(f"it holds step {state.get('step')!r}, which is not what its name says")
    try:
        weights, moments = load(contents["weights.safetensors"]), load(contents["optimizer.safetensors"])
    except (SafetensorError, ValueError, KeyError) as error:
        raise DamagedError(f"it cannot be read: {error}") from None
    if lost := [name for name, tensor in {**weights, **moments}.items() if not _finite(tensor)]:
        raise DamagedError(f"`{lost[0]}` holds what is not a number")
    return Checkpoint(path, step_of(path), state, weights, moments)


def _sums(data: bytes) -> dict[str, str]:
    try:
        pairs = [line.split("  ", 1) for line in data.decode("ascii").splitlines()]
        return {name: digest for digest, name in pairs}
    except ValueError:
        raise DamagedError(f"{_SUMS} is not as it was written") from None


def _state(data: bytes) -> dict[str, Any]:
    try:
        state = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"state.json cannot be read: {str(error) or 'it is nested too deeply'}") from None
    if not isinstance(state, dict):
        raise DamagedError("state.json is not an object")
    return state


def check(found: Checkpoint, parameters: Mapping[str, nn.Parameter], updates: int = 1) -> None:
    """E0608 where weights and moments are not those of these parameters. Shapes must be equal: nothing is broadcast.
    updates: of the optimiser in a step."""

    def wrong(what: str) -> Exception:
        return fail(
            "E0608",
            f"the checkpoint `{found.path}` does not fit: {what}",
            hint="resume with what it was trained with, or start over with --force",
        )

    if missing := sorted(set(parameters) - set(found.weights)):
        raise wrong(f"it has no `{missing[0]}`, which is trained now")
    if more := sorted(set(found.weights) - set(parameters)):
        raise wrong(f"it has `{more[0]}`, which is not trained now")
    moments = dict(found.moments)
    for name, parameter in parameters.items():
        own = [found.weights[name]]
        have = [key for key in _MOMENTS if f"{name}:{key}" in moments]
        if have and len(have) != len(_MOMENTS):
            raise wrong(f"of `{name}` it has but the moments {', '.join(have)}")
        if have:
            own += [moments.pop(f"{name}:exp_avg"), moments.pop(f"{name}:exp_avg_sq")]
            count = moments.pop(f"{name}:step")
            if count.numel() != 1 or not 0 < float(count) <= found.step * updates:
                raise wrong(f"the moments of `{name}` were not made in {found.step} steps")
        for tensor in own:
            if tensor.shape != parameter.shape or tensor.dtype != parameter.dtype:
                raise wrong(f"`{name}` is {_shape(tensor)} in it, and {_shape(parameter)} in this program")
    if moments:
        raise wrong(f"it has moments of `{min(moments)}`, which is not trained now")
    if not found.moments:
        raise wrong("it has no moments of the optimiser")


def _shape(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"


@torch.no_grad()
def restore(found: Checkpoint, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    """Put weights and moments that `check` has seen back."""
    for name, parameter in parameters.items():
        parameter.copy_(found.weights[name])
        if f"{name}:step" in found.moments:
            own = {key: found.moments[f"{name}:{key}"] for key in _MOMENTS}
            optimizer.state[parameter] = {
                key: tensor.clone() if key == "step" else tensor.to(parameter.device) for key, tensor in own.items()
            }


@torch.no_grad()
def put_weights(found: Checkpoint, parameters: Mapping[str, nn.Parameter]) -> None:
    """Put the weights alone into a program, which may have no use for all of them: its edges may be cut, or all of them
    be text. E0608 where one is missing or of another shape."""
    for name, parameter in parameters.items():
        if name not in found.weights or found.weights[name].shape != parameter.shape:
            what = f"`{name}` is not in it, or of another shape"
            raise fail("E0608", f"the checkpoint `{found.path}` does not fit: {what}", hint="take another one")
    for name, parameter in parameters.items():
        parameter.copy_(found.weights[name])
