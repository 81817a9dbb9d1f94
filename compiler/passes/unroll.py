"""Unroll: Resolved to Graph. Agents become activations (agent x round), repeats are run through.

Outside of repeats an agent is active once, after all that send to it. Inside, edges run in textual order, round after
round: an edge first brings its sender up to date (an agent that was sent something since its last activation, or never
was active, becomes active anew), then sends. An activation sees, through each of its edges that has run so far, the
newest activation of the sender; so an edge from outside feeds every activation. What an agent was sent last makes it
active once more at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

import networkx as nx

from masc.compiler.ir.graph import Activation, Edge, Graph, Loop
from masc.compiler.ir.resolved import Link, Resolved, Rounds
from masc.compiler.passes.order import useful


def unroll(resolved: Resolved) -> Graph:
    """The graph of activations. Agents that are not in the graph block are left behind, and so are activations that
    nothing comes of (unless an agent would vanish, which is complained about later)."""
    run = _Run({id(link): place for place, link in enumerate(resolved.links)})
    group = groups(resolved)
    into: dict[str, list[Link]] = {}
    repeats: dict[str, list[Rounds]] = {}
    for item in resolved.body:
        if isinstance(item, Rounds):
            repeats.setdefault(group[item.agents[0]], []).append(item)
        elif group[item.edge.sender] != group[item.edge.receiver]:
            into.setdefault(item.edge.receiver, []).append(item)
    for members in _ordered(resolved, group):
        for name in members:
            for link in into.get(name, ()):
                run.send(link)
        for rounds in repeats.get(group[members[0]], ()):
            run.repeat(rounds)
        for name in members:
            run.newest(name)
    outputs = tuple(
        (give.output, run.newest(give.agent).id)
        for output in resolved.outputs
        for give in resolved.gives
        if give.output == output.text
    )
    rank = {name: i for i, name in enumerate(resolved.mentions)}
    kept, edges = _useful(run, {activation for _, activation in outputs})
    again = _renumbered(kept)
    return Graph(
        name=resolved.name,
        inputs=tuple(name.text for name in resolved.inputs),
        outputs=tuple((output, again[activation].id) for output, activation in outputs),
        models=resolved.models,
        agents=tuple(agent for agent in resolved.agents if agent.name in rank),
        activations=tuple(sorted(again.values(), key=lambda a: (rank[a.agent], a.round))),
        edges=tuple(replace(e, sender=again[e.sender].id, receiver=again[e.receiver].id) for e in edges),
        labels=resolved.labels,
        train=resolved.train,
        span=resolved.span,
        loops=tuple(_loops(resolved.body)),
        columns=resolved.columns,
    )


def groups(resolved: Resolved) -> dict[str, str]:
    """For each agent in the graph one that stands for its group: those that repeats join. All others are alone."""
    joined: nx.Graph[str] = nx.Graph()
    for rounds in (item for item in resolved.body if isinstance(item, Rounds)):
        nx.add_path(joined, rounds.agents)
    # The first agent of its first repeat: the network holds its nodes in the order in which they came.
    found = {name: name for name in resolved.mentions}
    for members in nx.connected_components(joined):
        found |= dict.fromkeys(members, next(name for name in joined if name in members))
    return found


def _ordered(resolved: Resolved, group: Mapping[str, str]) -> Iterator[list[str]]:
    """Groups such that senders come before receivers; among those that could be next, the one mentioned first. Those
    that wait for each other come last: the check complains about them."""
    members: dict[str, list[str]] = {}
    for name in resolved.mentions:
        members.setdefault(group[name], []).append(name)
    outer = [item.edge for item in resolved.body if isinstance(item, Link)]
    pairs = [(group[e.sender], group[e.receiver]) for e in outer if group[e.sender] != group[e.receiver]]
    network: nx.DiGraph[str] = nx.DiGraph(pairs)
    network.add_nodes_from(members)
    rank = {root: place for place, root in enumerate(members)}
    ordered: dict[str, None] = {}
    with suppress(nx.NetworkXUnfeasible):  # raised once all are done that wait for nobody
        for root in nx.lexicographical_topological_sort(network, key=rank.__getitem__):
            ordered[root] = None
    yield from (members[root] for root in dict.fromkeys([*ordered, *members]))


@dataclass
class _Run:
    """What has happened so far."""

    place: Mapping[int, int]
    """Where a link stands among all: edges are listed in textual order, whenever they ran."""
    sent: dict[str, dict[int, tuple[Link, str]]] = field(default_factory=dict)
    """By receiver: each link that has run, with the activation that it last came from."""
    active: dict[str, Activation] = field(default_factory=dict)
    stale: set[str] = field(default_factory=set)
    activations: list[Activation] = field(default_factory=list)
    edges: list[tuple[int, Edge]] = field(default_factory=list)

    def send(self, link: Link) -> None:
        sender = self.newest(link.edge.sender)
        place, receiver = self.place[id(link)], link.edge.receiver
        self.sent.setdefault(receiver, {})[place] = (link, sender.id)
        self.stale.add(receiver)

    def newest(self, name: str) -> Activation:
        """The agent's newest activation; a new one if something has been sent to it since."""
        if name in self.active and name not in self.stale:
            return self.active[name]
        self.stale.discard(name)
        before = self.active.get(name)
        activation = Activation(name, before.round + 1 if before else 1)
        self.active[name] = activation
        self.activations.append(activation)
        for place, (link, sender) in sorted(self.sent.get(name, {}).items(), key=lambda entry: entry[0]):
            self.edges.append((place, replace(link.edge, sender=sender, receiver=activation.id)))
        return activation

    def repeat(self, rounds: Rounds) -> None:
        for _ in range(rounds.count):
            for item in rounds.body:
                if isinstance(item, Rounds):
                    self.repeat(item)
                else:
                    self.send(item)


def _useful(run: _Run, outputs: set[str]) -> tuple[list[Activation], list[Edge]]:
    """Activations and edges (in textual order) without those that nothing comes of."""
    edges = [edge for _, edge in sorted(run.edges, key=lambda entry: entry[0])]
    found = useful(edges, outputs)
    there = {activation.agent for activation in run.activations if activation.id in found}
    kept = [a for a in run.activations if a.id in found or a.agent not in there]
    names = {activation.id for activation in kept}
    return kept, [edge for edge in edges if edge.sender in names and edge.receiver in names]


def _renumbered(activations: list[Activation]) -> dict[str, Activation]:
    """New activations by old id: rounds count from 1 without gaps."""
    rounds: dict[str, int] = {}
    found: dict[str, Activation] = {}
    for activation in activations:
        rounds[activation.agent] = rounds.get(activation.agent, 0) + 1
        found[activation.id] = Activation(activation.agent, rounds[activation.agent])
    return found


def _loops(body: tuple[Link | Rounds, ...], parent: int | None = None, count: int = 0) -> list[Loop]:
    """Every repeat, outer ones first. count: how many stand before these."""
    found: list[Loop] = []
    for item in body:
        if isinstance(item, Rounds):
            own = count + len(found)
            found.append(Loop(item.count, item.agents, parent))
            found += _loops(item.body, own, own + 1)
    return found
