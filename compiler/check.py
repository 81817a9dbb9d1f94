"""Check: what can be wrong with a graph whose every part is right by itself. Only diagnostics come out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise

from masc.compiler.facts import ModelFacts
from masc.compiler.graph import Agent, Edge
from masc.compiler.models import layers_diagnostic, ridge_note
from masc.compiler.resolved import Link, Resolved
from masc.dsl import syntax
from masc.dsl.diagnostics import Diagnostic, Label, did_you_mean

_WIDTH = {"latents": 0, "own": 1, "trace": 2}


def check(resolved: Resolved, facts: Mapping[str, ModelFacts]) -> list[Diagnostic]:
    """All complaints about the graph. `facts`: by model's name, as far as they are known."""
    return [
        *_cycles(resolved),
        *_unreachable(resolved),
        *_unused(resolved),
        *_prompts(resolved),
        *_edges(resolved, facts),
        *_merges(resolved),
        *_ridges(resolved, facts),
    ]


def _cycles(resolved: Resolved) -> Iterator[Diagnostic]:
    """One complaint for each separate cycle. What is left after peeling off sources and sinks holds only cycles."""
    links = {(link.edge.sender, link.edge.receiver): link.edge for link in resolved.links}
    while links:
        senders, receivers = {s for s, _ in links}, {r for _, r in links}
        core = {pair: edge for pair, edge in links.items() if pair[0] in receivers and pair[1] in senders}
        if len(core) < len(links):
            links = core
            continue
        path = [next(name for name in resolved.mentions if name in senders)]
        while path[-1] not in path[:-1]:
            path.append(next(r for s, r in links if s == path[-1]))
        path = path[path.index(path[-1]) :]
        edges = [links[pair] for pair in pairwise(path)]
        shown = " -> ".join(path)
        labels = [Label(edge.span, "and on from here") for edge in edges[1:]]
        hint = "agents run one after another: remove one of these edges (rounds, `repeat`, come in a later version)"
        yield Diagnostic("E0305", f"these agents wait for each other: {shown}", edges[0].span, tuple(labels), hint)
        links = {pair: edge for pair, edge in links.items() if not {*pair} & {*path}}


def _unreachable(resolved: Resolved) -> Iterator[Diagnostic]:
    if "graph" in resolved.lost or not resolved.gives:
        return
    feeding: dict[str, list[str]] = {}
    for link in resolved.links:
        feeding.setdefault(link.edge.receiver, []).append(link.edge.sender)
    useful: set[str] = set()
    waiting = [give.agent for give in resolved.gives]
    while waiting:
        name = waiting.pop()
        if name not in useful:
            useful.add(name)
            waiting += feeding.get(name, [])
    for name in resolved.mentions:
        agent = resolved.agent(name)
        if name not in useful and agent.answer is None:
            goal = resolved.gives[0].agent
            message = f"nothing that `{name}` does reaches an answer"
            yield Diagnostic("E0306", message, agent.span, hint=f"send it on: `{name} -> {goal} : kv`, or take it out")


def _unused(resolved: Resolved) -> Iterator[Diagnostic]:
    if not {"graph", "agent"} & resolved.lost:
        for agent in resolved.agents:
            if agent.name not in resolved.mentions:
                hint = "name it in an edge, or alone on a line"
                yield Diagnostic("W0203", f"the agent `{agent.name}` is not in the graph", agent.span, hint=hint)
        used = {part.name for part in _placeholders(resolved)}
        for name in resolved.inputs:
            if name.text not in used:
                hint = f"an agent reads it where its prompt says `{{{name.text}}}`"
                message = f"no agent in the graph reads the input `{name.text}`"
                yield Diagnostic("W0204", message, name.span, hint=hint)
    if not {"model", "agent"} & resolved.lost:
        for model in resolved.models:
            if all(agent.model.text != model.name for agent in resolved.written.values()):
                yield Diagnostic("W0201", f"no agent runs on the model `{model.name}`", model.span)
    if not {"param", "use", "agent"} & resolved.lost:
        for param in resolved.unused:
            yield Diagnostic("W0202", f"the parameter `{param.name.text}` is not used", param.name.span)


def _placeholders(resolved: Resolved, names: tuple[str, ...] | None = None) -> Iterator[syntax.Placeholder]:
    for name in resolved.mentions if names is None else names:
        for member in resolved.written[name].members:
            if isinstance(member, syntax.Say):
                yield from (part for part in member.prompt.parts if isinstance(part, syntax.Placeholder))


def _prompts(resolved: Resolved) -> Iterator[Diagnostic]:
    inputs = [name.text for name in resolved.inputs]
    for receiver in resolved.mentions:
        for part in _placeholders(resolved, (receiver,)):
            if part.name in inputs:
                continue
            edge = next(
                (x.edge for x in resolved.links if (x.edge.sender, x.edge.receiver) == (part.name, receiver)), None
            )
            if edge is not None:
                message = f"`{part.name}` sends no text to `{receiver}`: a `kv` edge carries keys and values, not words"
                remedy = f"take `{{{part.name}}}` out: `{receiver}` sees what `{part.name}` thought without it"
                yield Diagnostic("E0208", message, part.span, (Label(edge.span, "the edge"),), remedy)
                continue
            message = f"`{part.name}` is not an input of the graph"
            if part.name in resolved.written:
                message += f", and the agent of that name sends nothing to `{receiver}`"
            hint = did_you_mean(part.name, inputs)
            if hint is None:
                hint = f"the inputs are {', '.join(inputs)}" if inputs else "the graph has no inputs"
                hint += f"; `{{{{{part.name}}}}}` stands for the word in braces"
            if "graph" not in resolved.lost or part.name not in resolved.written:
                yield Diagnostic("E0207", message, part.span, hint=hint)


def _edges(resolved: Resolved, facts: Mapping[str, ModelFacts]) -> Iterator[Diagnostic]:
    targets = {model.name: model.target for model in resolved.models}
    for link in resolved.links:
        edge = link.edge
        sender, receiver = resolved.agent(edge.sender), resolved.agent(edge.receiver)
        if {sender.model, receiver.model} <= targets.keys() and targets[sender.model] != targets[receiver.model]:
            yield _two_models(sender, receiver, edge, resolved)
        if edge.carry == "latents" and sender.steps == 0:
            message = f"`{sender.name}` has no latent steps, so `carry = latents` passes nothing"
            hint = f"give `{sender.name}` a line such as `think 10`"
            label = Label(sender.span, f"`{sender.name}` is declared here")
            yield Diagnostic("W0301", message, link.option("carry"), (label,), hint)
        if edge.open is not None and _WIDTH[edge.open.carry] <= _WIDTH[edge.carry]:
            message = f"`open` adds nothing: the edge carries `{edge.carry}` at all times"
            hint = "`open` widens a narrow channel in the first steps: `kv(carry = latents, open = 40)`"
            yield Diagnostic("W0302", message, link.option("open"), hint=hint)
        if edge.layers is not None and (known := facts.get(receiver.model)) is not None:
            problem = layers_diagnostic(edge.layers[1], known, link.option("layers"))
            if problem is not None:
                yield problem


def _two_models(sender: Agent, receiver: Agent, edge: Edge, resolved: Resolved) -> Diagnostic:
    labels = tuple(
        Label(resolved.written[agent.name].model.span, f"`{agent.name}` runs on `{agent.model}`")
        for agent in (sender, receiver)
    )
    message = f"`{sender.name}` and `{receiver.name}` run on different models, whose keys and values differ"
    hint = "let both run on one model"
    return Diagnostic("E0314", message, edge.span, labels, hint)


def _merges(resolved: Resolved) -> Iterator[Diagnostic]:
    first: dict[str, Link] = {}
    for link in resolved.links:
        other = first.setdefault(link.edge.receiver, link)
        if other.edge.merge != link.edge.merge:
            receiver = link.edge.receiver
            message = f"edges into `{receiver}` disagree: `merge = {link.edge.merge}` and `merge = {other.edge.merge}`"
            label = Label(other.option("merge"), f"`merge = {other.edge.merge}`")
            hint = "all kv edges into one agent merge alike: write the same on both"
            yield Diagnostic("E0315", message, link.option("merge"), (label,), hint)


def _ridges(resolved: Resolved, facts: Mapping[str, ModelFacts]) -> Iterator[Diagnostic]:
    for name in resolved.mentions:
        agent = resolved.agent(name)
        if agent.align == "ridge" and agent.steps and agent.model in facts and facts[agent.model].tied:
            think = next(m for m in resolved.written[name].members if isinstance(m, syntax.Think))
            yield ridge_note(name, think.span)
