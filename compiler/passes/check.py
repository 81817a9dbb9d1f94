"""Check: what can be wrong with a graph whose every part is right by itself. Only diagnostics come out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

import networkx as nx

from masc.compiler.channels import CHANNELS
from masc.compiler.channels.declare import Between, slots
from masc.compiler.ir.graph import Agent, Edge, Graph
from masc.compiler.ir.plan import agent_of
from masc.compiler.ir.resolved import Link, Resolved, Rounds
from masc.compiler.models.chat import DEFAULTS
from masc.compiler.models.facts import ModelFacts
from masc.compiler.models.locate import align_note, check_prompt, check_told, quiet_note
from masc.compiler.passes.order import useful
from masc.compiler.passes.unroll import groups
from masc.dsl import syntax
from masc.dsl.diagnostics import Diagnostic, Label, did_you_mean
from masc.dsl.limits import ALIKE, SHOWN


def check(resolved: Resolved, graph: Graph, facts: Mapping[str, ModelFacts]) -> list[Diagnostic]:
    """All complaints about the graph. `facts`: by model's name, as far as they are known."""
    return [
        *islice(_cycles(resolved), ALIKE),
        *islice(_inside(resolved), ALIKE),
        *_unreachable(resolved, graph),
        *_unused(resolved),
        *_prompts(resolved),
        *_edges(resolved, facts),
        *_alike(resolved),
        *_supervised(resolved, graph),
        *_aligned(resolved, facts),
        *_told(resolved, facts),
    ]


def _cycles(resolved: Resolved) -> Iterator[Diagnostic]:
    """One complaint for each separate cycle of edges outside of repeats, the agents of a repeat taken together."""
    group = groups(resolved)
    network: nx.DiGraph[str] = nx.DiGraph()
    for edge in (item.edge for item in resolved.body if isinstance(item, Link)):
        if group[edge.sender] != group[edge.receiver]:
            network.add_edge(group[edge.sender], group[edge.receiver], edge=edge)
    while network := _circular(network):
        start = next(group[name] for name in resolved.mentions if group[name] in network)
        cycle = nx.find_cycle(network, start)
        names = [*(sender for sender, _ in cycle), cycle[0][0]]
        edges: list[Edge] = [network.edges[pair]["edge"] for pair in cycle]
        shown = " -> ".join(names if len(names) <= SHOWN else [*names[: SHOWN - 2], "...", *names[-2:]])
        labels = [Label(edge.span, "and on from here") for edge in edges[1:SHOWN]]
        hint = "agents run one after another: remove one of these edges, or let them take turns: `repeat 2 { ... }`"
        yield Diagnostic("E0305", f"these agents wait for each other: {shown}", edges[0].span, tuple(labels), hint)
        network.remove_nodes_from(names)


def _circular(network: nx.DiGraph[str]) -> nx.DiGraph[str]:
    """The edges that lie on cycles: those between nodes that can reach each other."""
    parts = enumerate(nx.strongly_connected_components(network))
    part = {name: number for number, members in parts for name in members}
    circular: nx.DiGraph[str] = nx.DiGraph()
    circular.add_edges_from((a, b, data) for a, b, data in network.edges(data=True) if part[a] == part[b])
    return circular


def _inside(resolved: Resolved) -> Iterator[Diagnostic]:
    """Edges between the agents of one repeat stand in it: outside, nobody could say when they run."""
    group = groups(resolved)
    repeats: dict[str, Rounds] = {}
    for item in resolved.body:
        if isinstance(item, Rounds):
            repeats.setdefault(group[item.agents[0]], item)
    for item in resolved.body:
        if isinstance(item, Link) and group[item.edge.sender] == group[item.edge.receiver]:
            sender, receiver = item.edge.sender, item.edge.receiver
            rounds = repeats[group[sender]]
            message = f"`{sender}` and `{receiver}` take turns in a `repeat`, and this edge stands outside of it"
            label = Label(rounds.span, "the `repeat`")
            yield Diagnostic(
                "E0321", message, item.edge.span, (label,), "move it into the `repeat`, where it has its turn"
            )


def _unreachable(resolved: Resolved, graph: Graph) -> Iterator[Diagnostic]:
    if "graph" in resolved.lost or not resolved.gives:
        return
    found = {agent_of(a) for a in useful(graph.edges, dict(graph.outputs).values())}
    senders = {link.edge.sender for link in resolved.links}
    for name in resolved.mentions:
        agent = resolved.agent(name)
        if name not in found and (agent.answer is None or name in senders):
            goal = resolved.gives[0].agent
            message = f"nothing that `{name}` does reaches an answer"
            yield Diagnostic("E0306", message, agent.span, hint=f"send it on: `{name} -> {goal} : kv`, or take it out")


def _unused(resolved: Resolved) -> Iterator[Diagnostic]:
    if not {"graph", "agent"} & resolved.lost:
        mentioned = set(resolved.mentions)
        for agent in resolved.agents:
            if agent.name not in mentioned:
                hint = "name it in an edge, or alone on a line"
                yield Diagnostic("W0203", f"the agent `{agent.name}` is not in the graph", agent.span, hint=hint)
        used = {slot for name in resolved.mentions for slot in slots(resolved.agent(name))}
        for name in resolved.inputs:
            if name.text not in used:
                hint = f"an agent reads it where its prompt says `{{{name.text}}}`"
                message = f"no agent in the graph reads the input `{name.text}`"
                yield Diagnostic("W0204", message, name.span, hint=hint)


def _placeholders(resolved: Resolved, names: tuple[str, ...] | None = None) -> Iterator[syntax.Placeholder]:
    for name in resolved.mentions if names is None else names:
        for member in resolved.written[name].members:
            if isinstance(member, syntax.Say):
                yield from (part for part in member.prompt.parts if isinstance(part, syntax.Placeholder))


def _prompts(resolved: Resolved) -> Iterator[Diagnostic]:
    inputs = [name.text for name in resolved.inputs]
    taken = set(inputs)
    unknown = 0
    between: dict[tuple[str, str], list[Edge]] = {}
    for link in resolved.links:
        between.setdefault((link.edge.sender, link.edge.receiver), []).append(link.edge)
    for receiver in resolved.mentions:
        known = {field.name.text for field in resolved.written[receiver].fields}
        for part in _placeholders(resolved, (receiver,)):
            edges = between.get((part.name, receiver), [])
            if part.name in taken or part.name in known or any(CHANNELS[e.kind].in_prompt for e in edges):
                continue
            edge = edges[0] if edges else None
            if edge is not None:
                what = f"a `{edge.kind}` edge carries keys and values, which have no place in a prompt"
                message = f"nothing that `{part.name}` sends to `{receiver}` can stand here: {what}"
                remedy = f"take `{{{part.name}}}` out, or send words too: `{part.name} -> {receiver} : text`"
                yield Diagnostic("E0208", message, part.span, (Label(edge.span, "the edge"),), remedy)
                continue
            message = f"`{part.name}` is not an input of the graph"
            if part.name in resolved.written:
                message += f", and the agent of that name sends nothing to `{receiver}`"
            unknown += 1
            hint = did_you_mean(part.name, inputs) if unknown <= ALIKE else None
            if hint is None:
                hint = f"the inputs are {_listed(inputs)}" if inputs else "the graph has no inputs"
                hint += f"; `{{{{{part.name}}}}}` stands for the word in braces"
            if "graph" not in resolved.lost or part.name not in resolved.written:
                yield Diagnostic("E0207", message, part.span, hint=hint)


def _edges(resolved: Resolved, facts: Mapping[str, ModelFacts]) -> Iterator[Diagnostic]:
    bases = {model.name: model.base for model in resolved.models}
    for link in resolved.links:
        channel = CHANNELS[link.edge.kind]
        sender, receiver = resolved.agent(link.edge.sender), resolved.agent(link.edge.receiver)
        known = {sender.model, receiver.model} <= bases.keys()
        if channel.same_model and known and bases[sender.model] != bases[receiver.model]:
            yield _two_models(sender, receiver, link.edge, resolved)
        yield from channel.check(Between(link, sender, receiver, resolved, facts))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def _two_models(sender: Agent, receiver: Agent, edge: Edge, resolved: Resolved) -> Diagnostic:
    labels = tuple(
        Label(resolved.written[agent.name].model.span, f"`{agent.name}` runs on `{agent.model}`")
        for agent in (sender, receiver)
    )
    what = CHANNELS[edge.kind].same_model
    message = f"`{sender.name}` and `{receiver.name}` run on different models, whose {what} differ"
    *others, last = (f"`{kind}`" for kind, channel in CHANNELS.items() if not channel.same_model)
    hint = f"let both run on one model, or send {', '.join(others)} or {last}, which join any two"
    return Diagnostic("E0314", message, edge.span, labels, hint)


def _alike(resolved: Resolved) -> Iterator[Diagnostic]:
    """Edges of one kind into one agent that disagree where they must not."""
    first: dict[tuple[str, str], Link] = {}
    for link in resolved.links:
        kind, receiver = link.edge.kind, link.edge.receiver
        for option in CHANNELS[kind].options.values():
            if not option.shared:
                continue
            other = first.setdefault((receiver, option.name), link)
            said, before = (f"`{option.name} = {option.of(edge)}`" for edge in (link.edge, other.edge))
            if said != before:
                message = f"edges into `{receiver}` disagree: {said} and {before}"
                label = Label(other.option(option.name), before)
                hint = f"all {kind} edges into one agent use the same `{option.name}`"
                yield Diagnostic("E0315", message, link.option(option.name), (label,), hint)


def _supervised(resolved: Resolved, graph: Graph) -> Iterator[Diagnostic]:
    """An agent whose every word to others is an output already has no text of its own to supervise."""
    outputs = {activation: output for output, activation in graph.outputs}
    telling: dict[str, set[str]] = {}
    for edge in graph.edges:
        if CHANNELS[edge.kind].words:
            telling.setdefault(agent_of(edge.sender), set()).add(edge.sender)
    for name, _ in resolved.labels:
        own = telling.get(name, set())
        if own and own <= outputs.keys():
            output = outputs[min(own)]
            message = f"what `{name}` says is the output `{output}`: there is no other text of it to supervise"
            hint = f"supervise the output: `{output} <- column`"
            yield Diagnostic("E0327", message, resolved.agent(name).span, hint=hint)


def _aligned(resolved: Resolved, facts: Mapping[str, ModelFacts]) -> Iterator[Diagnostic]:
    for name in resolved.mentions:
        agent = resolved.agent(name)
        if agent.steps and agent.model in facts:
            think = next(m for m in resolved.written[name].members if isinstance(m, syntax.Think))
            note = align_note(name, agent.align, facts[agent.model], think.span)
            yield from [note] if note else []


def _told(resolved: Resolved, facts: Mapping[str, ModelFacts]) -> Iterator[Diagnostic]:
    """Whether each agent's model can be told its prompt."""
    targets = {model.name: model.target for model in resolved.models}
    for name in resolved.mentions:
        agent = resolved.agent(name)
        if agent.model in facts:
            says = (m for m in resolved.written[name].members if isinstance(m, syntax.Say) and m.role.text == "system")
            system = next((member.span for member in says), None)
            yield from check_prompt(agent, facts[agent.model], targets[agent.model], agent.span, system)
            told = ((one.name, one.span) for one in agent.variables)
            yield from check_told(told, facts[agent.model], targets[agent.model])
    yield from _quiet(resolved, facts)


def _quiet(resolved: Resolved, facts: Mapping[str, ModelFacts]) -> Iterator[Diagnostic]:
    """Models that would think in words, and of which neither they nor their agents say whether they shall."""
    agents = [resolved.agent(name) for name in resolved.mentions]
    for model in resolved.models:
        silent = [a for a in agents if a.model == model.name and not {*DEFAULTS} & {one.name for one in a.variables}]
        note = quiet_note(facts[model.name], model.target, model.span) if silent and model.name in facts else None
        yield from [note] if note else []
