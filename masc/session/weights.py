"""The weights that a program gets: whether they fit, loading those of a checkpoint, messages about untrained ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from masc.compiler.analysis.fits import misfits
from masc.compiler.artifact import Artifact
from masc.compiler.forms.essence import fingerprint
from masc.compiler.ir.plan import Plan
from masc.dsl.diagnostics import fail
from masc.terminal.console import say

if TYPE_CHECKING:
    from masc.backends.torch.program import Program
    from masc.backends.torch.training.checkpoints import Checkpoint


def check_fit(artifact: Artifact, plan: Plan, said: list[str]) -> None:
    """E0671 if the weights do not fit the graph. A warning is printed if they fit but were trained for another one."""
    root = artifact.layout.root
    if fingerprint(plan) == fingerprint(artifact.plan):
        return
    if wrong := misfits(artifact.plan, plan):
        hint = "train it: `masc train`"
        raise fail("E0671", f"the weights of `{root}` do not fit this graph: {'; '.join(wrong[:3])}", hint=hint)
    what = f"with {', '.join(said)} it" if said else "it"
    say(f"warning: {what} is not the graph that the weights of {root} were trained for; they fit it")


def checkpoint_of(artifact: Artifact, which: str) -> Path:
    """The folder of a checkpoint. which: `last`, or its step. E0674 if there is none."""
    from masc.backends.torch.training.checkpoints import every, step_of

    found = {step_of(path): path for path in every(artifact.layout.checkpoints)}
    if which == "last" and found:
        return found[max(found)]
    if which.isdecimal() and int(which) in found:
        return found[int(which)]
    there = f"there are those of step {', '.join(map(str, sorted(found)))}" if found else "there are none"
    if which != "last" and not which.isdecimal():
        there = f"say `last`, or a step; {there}"
    raise fail("E0674", f"`{artifact.layout.root}` has no checkpoint `{which}`", hint=there)


def read_checkpoint(path: Path) -> Checkpoint:
    """A checkpoint, as far as it is needed to run. E0608 if it is damaged."""
    from masc.backends.torch.training.checkpoints import DamagedError, read

    try:
        return replace(read(path), moments={})
    except DamagedError as error:
        raise fail("E0608", f"the checkpoint `{path}` is damaged: {error}", hint="take another one") from None


def load_checkpoint(found: Checkpoint, program: Program) -> None:
    """Load the weights of a checkpoint into a program. E0608 if it does not fit, E0615 if it was trained on another
    base model."""
    from masc.backends.torch.training.checkpoints import put_weights

    path = found.path
    belongs = found.state.get("belongs")
    models = belongs.get("models") if isinstance(belongs, dict) else None
    if not isinstance(models, dict):
        message = f"the checkpoint `{path}` does not say which base models it was trained on"
        raise fail("E0608", message, hint="take another one")
    check_models(models, path, program)
    put_weights(found, program.trainable())


def fresh(program: Program) -> str:
    """What to say of weights that are not trained."""
    if starts := program.history.starts:
        begun = ", ".join(f"`{agent}`" for agent, _ in starts)
        return f"what {begun} begins with is used as it is, all else is fresh"
    if program.across:
        return "adapters are fresh and change nothing, links between agents are as they start"
    return "fresh adapters, which change nothing"


def unfinished(artifact: Artifact) -> str | None:
    """What to do with the checkpoints of a run that did not finish; None: there are none."""
    from masc.backends.torch.training.checkpoints import every, step_of

    if not (found := every(artifact.layout.checkpoints)):
        return None
    step = step_of(found[-1])
    return f"training stopped after step {step}: `masc train --resume` goes on, `--checkpoint last` takes its weights"


def check_models(recorded: Mapping[str, str | None], where: Path, program: Program) -> None:
    """E0615 if a base model does not have the recorded hash."""
    for record in program.model_records():
        if recorded.get(record.name) not in (None, "", record.hash):
            raise fail(
                "E0615",
                f"model `{record.name}` ({record.target}) is not the one that `{where}` was trained on",
                hint="put the model back, or train again with --force",
            )
