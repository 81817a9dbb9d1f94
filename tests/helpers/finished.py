"""A run of four steps that has ended, and what goes on from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from masc.backends.torch.training.train import train
from masc.dsl.diagnostics import Diagnostic
from support import ROWS, chain, make_program

AGENTS = (("a", 1, "norm"), ("b", 0, "norm"))
TEXT = chain(*AGENTS, adapt="lora(rank = 2, dropout = 0.1)", edge="kv(carry = latents, open = 3)")
SETTINGS: dict[str, Any] = {"steps": 4, "batch": 2, "save_every": 1, "keep": 3, "rate": 1e-3}
LAST, BEFORE = "checkpoints/step-000004", "checkpoints/step-000003"


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def resume(
    tiny: Path, folder: Path, text: str = TEXT, rows: Any = ROWS, **settings: Any
) -> tuple[list[dict[str, Any]], list[Diagnostic]]:
    told: list[Diagnostic] = []
    program = make_program(text, tiny, **settings.pop("options", {}))
    asked = {**SETTINGS, "eval_every": 2, **settings}
    return train(program, rows, ROWS[:2], directory=folder, resume=True, tell=told.extend, **asked), told


def sign(checkpoint: Path) -> None:
    """Write the checksums of the files as they are now: what a careful forger does."""
    lines = [
        f"{hashlib.sha256((checkpoint / name).read_bytes()).hexdigest()}  {name}\n"
        for name in ("weights.safetensors", "optimizer.safetensors", "state.json")
    ]
    (checkpoint / "SHA256SUMS").write_text("".join(lines))


def edited(**changes: Any) -> Callable[[Path], None]:
    """Somebody has edited the state and signed it. `a__b` is an entry b of the object a; None takes it away."""

    def edit(checkpoint: Path) -> None:
        state = json.loads((checkpoint / "state.json").read_text())
        for path, item in changes.items():
            *inner, name = path.split("__")
            place = state
            for key in inner:
                place = place[key]
            place[name] = item
            if item is None:
                del place[name]
        (checkpoint / "state.json").write_text(json.dumps(state))

    return edit


def steps(folder: Path) -> list[tuple[int, bool]]:
    """Every line: its step, and whether it is an evaluation's."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], "eval_loss" in line) for line in lines]


WHOLE = [(1, False), (2, False), (2, True), (3, False), (4, False), (4, True)]
