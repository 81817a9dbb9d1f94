"""`masc export`: one agent of an artifact as a folder that other programs load."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from masc.dsl.diagnostics import did_you_mean, fail
from masc.session.folders import check_new, new_folder
from masc.session.programs import Found, load_program
from masc.terminal.console import say

if TYPE_CHECKING:
    from masc.backends.torch.program import Program


def check_agent(found: Found, agent: str, merged: bool) -> None:
    """E0635 where there is no such agent, it has no adapter to give, or nobody has trained it."""
    names = [each.name for each in found.plan.agents]
    if agent not in names:
        hint = did_you_mean(agent, names) or f"its agents are {', '.join(names)}"
        raise fail("E0635", f"`{found.path}` has no agent `{agent}`", hint=hint)
    if found.plan.agent(agent).lora is None and not merged:
        hint = "with `--merged` it is its base model"
        raise fail("E0635", f"`{agent}` has no adapter (`adapt none`)", hint=hint)
    if not found.artifact.manifest.trained and found.checkpoint is None:
        raise fail("E0635", f"`{found.artifact.layout.root}` is not trained", hint="train it: `masc train`")


def export(found: Found, agent: str, out: Path, *, merged: bool, dtype: str | None, device: str | None) -> None:
    """Write an agent into a new folder, whole or not at all (errors as of `check_new`, `check_agent`, loading)."""
    check_new(out)
    check_agent(found, agent, merged)
    program = load_program(found, dtype="float32", device=device)
    with new_folder(out) as part:
        _write(program, agent, part, merged, dtype)
    if program.plan.agent(agent).adapter != agent and not merged:
        say(f"note: `{agent}` shares the adapter of `{program.plan.agent(agent).adapter}`")
    say(f"{agent} -> {out}; it stands alone there: what other agents send it stays in the artifact")


def _write(program: Program, agent: str, folder: Path, merged: bool, dtype: str | None) -> None:
    import torch

    from masc.backends.torch.model.export import write_adapter, write_merged

    base, one = program.base(agent), program.plan.agent(agent)
    if merged:
        write_merged(base, one, folder, None if dtype is None else getattr(torch, dtype))
    else:
        write_adapter(base, one, _base_name(program, one.model), folder)


def _base_name(program: Program, model: str) -> str:
    """What finds the base from anywhere: its id, where its folder is in the hub's cache, else its whole path."""
    target = next(each.target for each in program.plan.models if each.name == model)
    folder = next(program.base(each.name).folder for each in program.plan.agents if each.model == model)
    return target if "snapshots" in folder.parts and not Path(target).is_absolute() else str(folder.absolute())
