"""Folders that training made and that are no artifact: what to tell the user about them.

`masc.train(program, rows, directory="run")` from Python writes `run/checkpoints/` and `run/metrics.jsonl`, but no
program.
"""

from __future__ import annotations

from pathlib import Path

from masc.compiler.artifact.layout import CHECKPOINTS, METRICS, Layout, is_checkpoint


def describe_training(folder: Path) -> tuple[str, str] | None:
    """A message and a hint for a folder that training wrote into, for its `checkpoints/`, or for one checkpoint. None
    for all other folders."""
    full = folder.absolute()
    step = full if is_checkpoint(full) and full.parent.name == CHECKPOINTS else None
    checkpoints = step.parent if step else full if full.name == CHECKPOINTS else Layout(full).checkpoints
    if not _any(checkpoints):
        return None
    root = checkpoints.parent
    # As short as the user wrote it: `run` for `run/checkpoints`.
    shown = root if folder.is_absolute() or ".." in folder.parts else _relative(root)
    which = step.name.partition("-")[2].lstrip("0") if step else "last"
    if Layout(root).at("manifest.json").is_file():
        return f"`{folder}` belongs to the artifact `{shown}`", f"give `{shown}` and `--checkpoint {which}`"
    what = f"`{folder}` holds checkpoints of a training, and no program that they belong to"
    how = f'`program.save("{shown}")` in Python makes `{shown}` an artifact'
    return what, f"{how}; `--checkpoint {which}` then takes the weights of a checkpoint"


def checkpoint_above(path: Path) -> str | None:
    """What a new file at this path would damage of a training: a checkpoint or `checkpoints/` that it would be in, or
    the metrics that it would replace. None: nothing."""
    for folder in path.parents:
        if is_checkpoint(folder) and any((folder / name).is_file() for name in ("state.json", "weights.safetensors")):
            return f"the checkpoint `{folder.name}`"
        if folder.name == CHECKPOINTS and _any(folder):
            return f"the checkpoints of a training in `{folder.parent.name}`"
    if path.name == METRICS and _any(path.parent / CHECKPOINTS):
        return f"the metrics of a training in `{path.parent.name}`"
    return None


def _any(checkpoints: Path) -> bool:
    return any(is_checkpoint(path) for path in checkpoints.glob("step-*"))


def _relative(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
