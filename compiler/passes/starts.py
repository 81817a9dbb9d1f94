"""Whether the trained adapters that agents begin with are ones of their base models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from masc.compiler.ir.adapter import Lora
from masc.compiler.ir.graph import Model
from masc.compiler.ir.resolved import Resolved
from masc.compiler.models.content import model_hash
from masc.compiler.models.facts import ModelFacts
from masc.compiler.models.locate import HUB_ID, Location, locate_model
from masc.compiler.models.peft import AdapterFacts, differences, locate_adapter, read_adapter, wrong_tensors
from masc.compiler.models.size import projections
from masc.dsl import syntax
from masc.dsl.diagnostics import Diagnostic
from masc.dsl.source import Span


def started(resolved: Resolved, facts: Mapping[str, ModelFacts], base: Path) -> Iterator[Diagnostic]:
    """What speaks against the adapters that agents in the graph begin with. facts: by model's name, as far as known;
    base: what relative folders are relative to."""
    models = {model.name: model for model in resolved.models}
    for name in resolved.mentions:
        agent = resolved.agent(name)
        if agent.lora is None or agent.lora.start is None or agent.shares or agent.model not in models:
            continue
        adapts = (m for m in resolved.written[name].members if isinstance(m, syntax.Adapt) and m.start is not None)
        span = next((member.start.span for member in adapts if member.start is not None), agent.span)
        yield from _of(name, agent.lora, models[agent.model], facts.get(agent.model), base, span)


def _of(agent: str, lora: Lora, on: Model, facts: ModelFacts | None, base: Path, span: Span) -> Iterator[Diagnostic]:
    assert lora.start is not None
    located = locate_adapter(lora.start, base)
    folder = located[1] if located else None
    if folder is None:
        return
    try:
        says = read_adapter(folder)
    except (OSError, ValueError):
        return  # which has been told
    if differences(lora, says):
        return  # so has that
    target, model = on.target, locate_model(on.target, base, on.loading.revision)
    yield from _base(agent, lora.start, says, target, model, base, span)
    shapes = projections(model.folder, facts) if model and model.folder and facts else None
    if facts is None or shapes is None:
        return
    if says.layers is not None and says.layers != tuple(range(facts.layers)):
        message = f"the adapter `{lora.start}` is on layers {', '.join(map(str, says.layers))} of its model alone"
        yield Diagnostic("E0556", message, span, hint=f"masc adapts all layers; `{agent}` has {facts.layers} of them")
        return
    for wrong in wrong_tensors(folder, lora, shapes, facts.layers):
        message = f"the adapter `{lora.start}` is not one of the model of `{agent}`, `{target}`: it {wrong}"
        yield Diagnostic("E0556", message, span, hint="name an adapter that was trained on this model")


def _base(
    agent: str, start: str, says: AdapterFacts, target: str, own: Location | None, base: Path, span: Span
) -> Iterator[Diagnostic]:
    """Whether the base model that an adapter names is the agent's: by content where both are on disk, else by name."""
    hint = "name an adapter that was trained on this model"
    named = says.base
    theirs = locate_model(named, base) if named else None
    if own and own.folder and theirs and theirs.folder and theirs.folder.is_dir():
        same = own.folder.resolve() == theirs.folder.resolve() or model_hash(own.folder) == model_hash(theirs.folder)
        if not same:
            message = f"the adapter `{start}` was trained on `{named}`, whose files are not those of `{target}`"
            yield Diagnostic("E0556", message, span, hint=hint)
        return
    if named and HUB_ID.match(named) and own is not None and own.kind == "hub":
        if named.casefold() != target.casefold():
            message = f"the adapter `{start}` was trained on `{named}`, and `{agent}` runs on `{target}`"
            yield Diagnostic("E0556", message, span, hint=hint)
        return
    if named is None or named.rstrip("/").rpartition("/")[2].casefold() != target.rpartition("/")[2].casefold():
        what = f"was trained on `{named}`" if named else "does not say which model it was trained on"
        message = f"the adapter `{start}` {what}: whether that is `{target}` cannot be told, only that its shapes fit"
        yield Diagnostic("W0550", message, span, hint="an adapter means something on its own base model only")
