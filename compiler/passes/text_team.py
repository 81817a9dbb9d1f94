"""The text channel: the same team, but every edge carries words. It is the baseline that a latent team is held against.

What an agent would have seen of others as keys and values, hidden states or a fused cache, it reads as text: with
`carry = trace` of all whose segments it would have seen, else of the sender alone. Nobody thinks in latent steps. An
agent's `answer` line says how it decodes, also where it counts for nothing but this channel.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from masc.compiler.channels import CHANNELS, WORDS
from masc.compiler.ir.graph import Edge, Graph
from masc.compiler.ir.plan import Sampling, agent_of
from masc.compiler.passes.order import order


def unasked(graph: Graph) -> Sampling:
    """How an agent speaks that has no `answer` line: with the temperature, top-p and seed of the one that gives the
    first output, and with as many tokens, but no fewer than an `answer` line without options gives."""
    first = next((graph.agent(agent_of(activation)).answer for _, activation in graph.outputs), None) or Sampling()
    return replace(first, max_tokens=max(first.max_tokens, Sampling().max_tokens), stop=())


def as_text(graph: Graph, cut: Collection[tuple[str, str]] = ()) -> Graph:
    """The graph with a text edge for each segment that an activation would have learnt something of.

    `cut`: edges (sender's and receiver's activation) that carry nothing: nothing is handed on through them either.
    """
    read: dict[str, dict[str, Edge]] = {}
    sight: dict[str, dict[str, None]] = {}
    for receiver in order(graph):  # senders first: what they read is known
        found: dict[str, Edge] = {}
        seen: dict[str, None] = {}  # as keys and values: a trace hands on nothing else
        for edge in graph.incoming(receiver):
            whole = (edge.sender, receiver) not in cut
            if CHANNELS[edge.kind].views and edge.carry == "trace" and whole:
                found |= {sender: edge for sender in sight[edge.sender] if sender not in found}
                seen |= sight[edge.sender]
            found[edge.sender] = edge
            seen |= {edge.sender: None} if CHANNELS[edge.kind].views and whole else {}
        read[receiver], sight[receiver] = found, seen
    edges = tuple(
        Edge(sender, receiver, WORDS.kind, edge.group, edge.span)
        for receiver, found in read.items()
        for sender, edge in found.items()
    )
    telling = {agent_of(edge.sender) for edge in edges}
    how = unasked(graph)
    agents = (
        replace(agent, steps=0, answer=agent.answer or (how if agent.name in telling else None))
        for agent in graph.agents
    )
    return replace(graph, agents=tuple(agents), edges=edges)
