"""Unroll: Resolved to Graph. Agents become activations; without `repeat` each is active once."""

from __future__ import annotations

from dataclasses import replace

from masc.compiler.graph import Activation, Graph
from masc.compiler.resolved import Resolved


def unroll(resolved: Resolved) -> Graph:
    """The graph of activations. Agents that are not in the graph block are left behind."""
    activations = {name: Activation(name, 1) for name in resolved.mentions}
    edges = (
        replace(link.edge, sender=activations[link.edge.sender].id, receiver=activations[link.edge.receiver].id)
        for link in resolved.links
    )
    return Graph(
        name=resolved.name,
        inputs=tuple(name.text for name in resolved.inputs),
        outputs=tuple(
            (give.output, activations[give.agent].id)
            for output in resolved.outputs
            for give in resolved.gives
            if give.output == output.text
        ),
        models=resolved.models,
        agents=tuple(agent for agent in resolved.agents if agent.name in activations),
        activations=tuple(activations.values()),
        edges=tuple(edges),
        labels=resolved.labels,
        train=resolved.train,
        span=resolved.span,
    )
