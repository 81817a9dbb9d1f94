"""Training that begins with what another artifact learned: agent by agent, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load
from torch import Tensor, nn

from masc.backends.torch.engine.modules import Modules
from masc.backends.torch.model import adapters
from masc.backends.torch.model.stored import check_tensor
from masc.compiler.artifact import Artifact, read_artifact, read_weights
from masc.compiler.models.peft import CONFIG, WEIGHTS
from masc.dsl.diagnostics import fail


@dataclass(frozen=True)
class Taken:
    """What a program begins with. taken: agents, and edges with trained parts of their own (`hidden(a, b)`); left: what
    stays as it began and why; unused: what the artifact has beside."""

    taken: tuple[str, ...]
    left: Mapping[str, str]
    unused: tuple[str, ...]


@torch.no_grad()
def init_from(modules: Modules, root: Path) -> Taken:
    """Put an artifact's adapters and links into a program, as far as names, ranks, scales and shapes are the same. It
    wins over what the file says that an adapter begins with (`from`).

    E0615 where an agent of that name has another base model there, E0644 where nothing fits or nothing was trained;
    the program is then as it was.
    """
    artifact = read_artifact(root)
    if not artifact.manifest.trained:
        raise fail("E0644", f"`{root}` is not trained: there is nothing to begin with", hint="train it first")
    check_bases(modules, artifact)
    files = read_weights(artifact)
    found: dict[nn.Parameter, Tensor] = {}
    taken: list[str] = []
    left: dict[str, str] = {}
    for agent in modules.plan.agents:
        if agent.own is None:
            continue
        model = modules.base(agent.name).model
        names = [f"adapters/{agent.name}/{name}" for name in (CONFIG, WEIGHTS)]
        if not all(name in files for name in names):
            left[agent.name] = "no adapter of that name there"
            continue
        try:
            read = adapters.read(model, agent.name, *(files[name] for name in names))
        except ValueError as error:
            left[agent.name] = str(error)
            continue
        found |= {model.get_parameter(name): tensor for name, tensor in read.items()}
        taken.append(agent.name)
    stored = load(files["channels.safetensors"]) if "channels.safetensors" in files else {}
    links: dict[str, dict[str, nn.Parameter]] = {}
    for name, parameter in modules.channels().items():
        links.setdefault(_link(name), {})[name] = parameter
    for link, parameters in links.items():
        if why := _misfit({name: t for name, t in stored.items() if _link(name) == link}, parameters):
            left[link] = why
            continue
        found |= {parameter: stored[name] for name, parameter in parameters.items()}
        taken.append(link)
    if not taken:
        why = "; ".join(f"{name}: {reason}" for name, reason in list(left.items())[:5])
        raise fail("E0644", f"nothing in `{root}` fits this program ({why or 'it has no adapters'})")
    for parameter, tensor in found.items():
        parameter.copy_(tensor)
    there = {name.split("/")[1] for name in files if name.startswith("adapters/")} | {_link(name) for name in stored}
    starts = tuple(pair for pair in modules.history.starts if pair[0] not in taken)
    modules.note(replace(modules.history, initialised_from=str(root.absolute()), starts=starts))
    return Taken(tuple(taken), left, tuple(sorted(there - set(taken) - set(left))))


def check_bases(modules: Modules, artifact: Artifact) -> None:
    """E0615 where an agent of the program has another base model in the artifact, by the content of its files."""
    theirs = {record.name: record for record in artifact.manifest.models}
    ours = {record.name: record for record in modules.model_records()}
    models = {agent.name: agent.model for agent in artifact.plan.agents}
    for agent in modules.plan.agents:
        known, own = theirs.get(models.get(agent.name, "")), ours[agent.model]
        if known is not None and known.hash not in (None, own.hash):
            raise fail(
                "E0615",
                f"agent `{agent.name}` was trained on another base model ({known.target}) than `{own.target}` as it "
                f"is now",
                hint="adapters mean something on their own base model only",
            )


def _link(name: str) -> str:
    """The edge or agent that a tensor of `channels.safetensors` belongs to."""
    head, closed, _ = name.partition(").")
    return head + ")" if closed else name


def _misfit(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str | None:
    if not found:
        return "no link of that name there"
    if set(found) != set(wanted):
        return "it is made of other parts there"
    try:
        for name, tensor in found.items():
            check_tensor(name, tensor, wanted[name])
    except ValueError as error:
        return str(error)
    return None
