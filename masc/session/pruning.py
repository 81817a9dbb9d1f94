"""`masc prune`: a trained artifact without its closed edges, as a new source and a new artifact that runs at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from masc.compiler.artifact import (
    Artifact,
    artifact_of,
    base_of,
    check_overwrite,
    gates_of,
    is_artifact,
    locate,
    read_artifact,
    read_weights,
    save_artifact,
)
from masc.compiler.artifact.gates import name_of, only
from masc.compiler.artifact.layout import CHANNELS
from masc.compiler.channels import CHANNELS as KINDS
from masc.compiler.channels import PLAIN
from masc.compiler.channels.declare import slots
from masc.compiler.files.writing import atomic_write, check_file
from masc.compiler.ir.graph import Edge, Graph
from masc.compiler.ir.plan import Plan, agent_of
from masc.compiler.passes.order import useful
from masc.compiler.pipeline import Compilation, compile_source
from masc.dsl.diagnostics import Diagnostic, fail
from masc.dsl.formatter import format_file
from masc.dsl.limits import SHOWN
from masc.dsl.prune import Without, pruned
from masc.dsl.source import Source
from masc.session.programs import compile_source_of

BELOW = 0.05
"""A gate that is open less far than this is taken for closed."""


@dataclass(frozen=True)
class Pruned:
    """closed: what was taken out, by the edge's name with how far its gate was open; kept: the other gates; left_out:
    agents that led to an output through closed edges alone; moved: activations that start elsewhere than before."""

    source: Path
    artifact: Path
    closed: Mapping[str, float]
    kept: Mapping[str, float]
    left_out: tuple[str, ...]
    moved: tuple[str, ...]
    warnings: tuple[Diagnostic, ...] = ()


def prune(argument: Path | None, out: Path | None = None, below: float = BELOW) -> Pruned:
    """Write the graph of a trained artifact without the edges whose gates are open less far than `below`, as a `.mas`,
    and beside it an artifact with the weights of what is left. What is on the disk stays as it is.

    argument: the artifact, or its source; out: the new source, or the new artifact (None: `x-pruned.mas` beside the
    file that it was compiled from). Errors: E0650 no trained weights, E0651 no gates, E0652 nothing to close, or an
    output would stand alone; E0653 what is left cannot be written down so; E0545 the new file is there already.
    """
    root = artifact_of(locate(argument, Path()))
    hint = "train it first: `masc train`"
    if not is_artifact(root) or not root.is_dir():
        raise fail("E0650", f"there is no artifact `{root}`, so that nothing is known of gates", hint=hint)
    artifact = read_artifact(root)
    if not artifact.manifest.trained:
        raise fail("E0650", f"`{root}` is not trained: its gates are as they began", hint=hint)
    gates = gates_of(artifact)
    if not gates:
        hint = "an edge gets one by `kv(gate = learned)`; `train { sparsity 0.01 }` pulls it towards closed"
        raise fail("E0651", f"no edge of `{root}` has a gate", hint=hint)
    closed = {name: value for name, value in gates.items() if value < below or value == 0}
    if not closed:
        lowest = min(gates, key=gates.__getitem__)
        message = f"no gate of `{root}` is below {below:g}: the lowest is {lowest}, {gates[lowest]:.2g}"
        raise fail("E0652", message, hint="train on with more `sparsity`, or say `--below`")
    source, target = _places(artifact, out)
    before = compile_source_of(artifact.source, {})
    before.require()
    assert before.graph is not None
    assert before.file is not None
    edges = [edge for edge in before.graph.edges if name_of(edge) not in closed]
    _check_outputs(before.graph, edges, closed)
    reached = useful(edges, dict(before.graph.outputs).values())
    left = {agent_of(activation) for activation in reached}
    left_out = tuple(agent.name for agent in before.graph.agents if agent.name not in left)
    _check_shared(before.graph, left_out)
    without = _without(before.graph, closed, left_out)
    text = format_file(pruned(before.file, without))
    made = compile_source(Source(str(source), text), dict(artifact.manifest.set), base=base_of(artifact))
    if wrong := next((d for d in made.diagnostics if d.severity == "error"), None):
        message = f"what is left of `{artifact.source.name}` cannot be written down so: {wrong.message} ({wrong.code})"
        hint = "take the closed edges out by hand, and run it with `--weights`"
        raise fail("E0653", message, hint=hint)
    check_overwrite(target, made)
    warnings = _save(artifact, made, target)
    atomic_write(source, text)
    kept = {name: value for name, value in gates.items() if name not in closed}
    return Pruned(source, target, closed, kept, left_out, tuple(_moved(artifact.plan, made.require())), warnings)


def _places(artifact: Artifact, out: Path | None) -> tuple[Path, Path]:
    """The new source and the new artifact."""
    name = Path(artifact.manifest.source).stem
    source = base_of(artifact) / f"{name}-pruned.mas" if out is None else out.with_suffix(".mas")
    if out is not None and out.suffix not in (".mas", ".masc"):
        raise fail("E0545", f"cannot write `{out}`", hint="name the new source, `x.mas`, or the new artifact, `x.masc`")
    if source.exists():
        raise fail("E0545", f"`{source}` is there already", hint="name another file with -o, or take that one away")
    check_file(source)
    if is_artifact(source.parent):
        raise fail("E0545", f"cannot write `{source}`: it lies in an artifact", hint="name another file with -o")
    return source, source.with_suffix(".masc")


def _check_outputs(graph: Graph, edges: Collection[Edge], closed: Mapping[str, float]) -> None:
    """E0652 where all that an output hears of others would go."""
    for output, activation in graph.outputs:
        if graph.incoming(activation) and not any(edge.receiver == activation for edge in edges):
            names = ", ".join(sorted({name_of(edge) for edge in graph.incoming(activation)})[:SHOWN])
            message = f"every edge into `{agent_of(activation)}`, which gives `{output}`, would close: {names}"
            raise fail("E0652", message, hint="train again with less `sparsity`, or say a lower `--below`")


def _check_shared(graph: Graph, left_out: Collection[str]) -> None:
    """E0653 where an agent that stays has the adapter of one that goes."""
    for agent in graph.agents:
        if agent.shares in left_out and agent.name not in left_out:
            message = f"`{agent.shares}` would be left out, and `{agent.name}` has its adapter"
            hint = f"let `{agent.shares}` have that of `{agent.name}` and train again, or keep an edge with `--below`"
            raise fail("E0653", message, hint=hint)


def _without(graph: Graph, closed: Mapping[str, float], left_out: tuple[str, ...]) -> Without:
    """What goes from the text."""
    named = {(edge.kind, agent_of(edge.sender), agent_of(edge.receiver)): name_of(edge) for edge in graph.edges}
    gone = {edge for edge, name in named.items() if name in closed}
    filled = {(receiver, sender) for kind, sender, receiver in named.keys() - gone if KINDS[kind].in_prompt}
    read = {slot for agent in graph.agents if agent.name not in left_out for slot in slots(agent)}
    emptied = {(receiver, sender) for kind, sender, receiver in gone if KINDS[kind].in_prompt} - filled
    emptied = {(receiver, sender) for receiver, sender in emptied if sender not in graph.inputs}
    inputs = [name for name in graph.inputs if name not in read]
    return Without(gone, left_out, inputs, PLAIN.kind, emptied)


def _save(artifact: Artifact, made: Compilation, target: Path) -> tuple[Diagnostic, ...]:
    """Write the new artifact, with the weights of what is left."""
    plan, manifest = made.require(), artifact.manifest
    files = read_weights(artifact)
    adapters = {f"adapters/{agent.name}" for agent in plan.agents if agent.own is not None}
    owners = {agent.name for agent in plan.agents}
    owners |= {name_of(edge) for edge in made.graph.edges} if made.graph is not None else set()

    def owned(tensor: str) -> bool:
        edge, closing, _ = tensor.partition(").")
        return edge + ")" in owners if closing else tensor in owners

    def put(folder: Path) -> None:
        for name, data in files.items():
            kept = only(data, owned) if name == CHANNELS else data
            if kept is not None and (name == CHANNELS or name.rpartition("/")[0] in adapters):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                atomic_write(folder / name, kept)

    names = {model.name for model in plan.models}
    models = tuple(model for model in manifest.models if model.name in names)
    training = manifest.training
    if training is not None:
        agents = {agent.name for agent in plan.agents}
        training = dataclasses.replace(training, starts=tuple(pair for pair in training.starts if pair[0] in agents))
    saved = save_artifact(target, made, put, models=models, seed=manifest.seed, training=training)
    return saved.warnings


def _moved(before: Plan, now: Plan) -> Iterator[str]:
    """The activations that started behind what is gone."""
    starts = {turn.activation: turn.at for turn in before.turns}
    yield from (turn.activation for turn in now.turns if starts.get(turn.activation, turn.at) != turn.at)
