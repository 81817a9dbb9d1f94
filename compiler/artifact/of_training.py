"""Folders that training made and that are no artifact: what they are, and how the weights in them are had.

Python's `masc.train(program, rows, directory="run")` keeps `run/checkpoints/` and `run/metrics.jsonl`, but no program.
"""

from __future__ import annotations

from pathlib import Path

from masc.compiler.artifact.layout import CHECKPOINTS, Layout, is_checkpoint


def training_told(folder: Path) -> tuple[str, str] | None:
    """What a folder is, and what to do with it, where it is one that training wrote into, its `checkpoints/` or one of
    those; None for every other one."""
    full = folder.absolute()
    step = full if is_checkpoint(full) and full.parent.name == CHECKPOINTS else None
    checkpoints = step.parent if step else full if full.name == CHECKPOINTS else Layout(full).checkpoints
    if not any(is_checkpoint(path) for path in checkpoints.glob("step-*")):
        return None
    root = checkpoints.parent
    # As short as it was given: `run` for `run/checkpoints`.
    shown = root if folder.is_absolute() or ".." in folder.parts else _relative(root)
    which = step.name.partition("-")[2].lstrip("0") if step else "last"
    if Layout(root).at("manifest.json").is_file():
        return f"`{folder}` belongs to the artifact `{shown}`", f"give `{shown}` and `--checkpoint {which}`"
    what = f"`{folder}` holds checkpoints of a training, and no program that they belong to"
    how = f'`program.save("{shown}")` in Python makes `{shown}` an artifact'
    return what, f"{how}; `--checkpoint {which}` then takes the weights of a checkpoint"


def _relative(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
