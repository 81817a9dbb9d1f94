"""What order a graph leaves open: which activation may run when, and what comes before one."""

from __future__ import annotations

from collections.abc import Iterable

import networkx as nx

from masc.compiler.ir.graph import Edge, Graph


def order(graph: Graph) -> tuple[str, ...]:
    """Activations such that senders come first; among those that could be next, the one mentioned first."""
    return tuple(nx.lexicographical_topological_sort(graph.network, key=_rank(graph).__getitem__))


def waves(graph: Graph) -> tuple[tuple[str, ...], ...]:
    """Activations by turns: each one in the first turn in which all that send to it are done, so that those of one turn
    do not depend on each other. In a turn they stand in the order in which they are mentioned."""
    rank = _rank(graph)
    return tuple(tuple(sorted(wave, key=rank.__getitem__)) for wave in nx.topological_generations(graph.network))


def upstream(graph: Graph, activation: str) -> set[str]:
    """The activations of which something may arrive at one, itself among them."""
    return {activation, *nx.ancestors(graph.network, activation)}


def useful(edges: Iterable[Edge], outputs: Iterable[str]) -> set[str]:
    """The activations that something of an output comes from, directly or not."""
    end = ""  # of all outputs; no activation is called so
    network: nx.DiGraph[str] = nx.DiGraph([(edge.sender, edge.receiver) for edge in edges])
    network.add_node(end)
    network.add_edges_from((output, end) for output in outputs)
    return set(nx.ancestors(network, end))


def _rank(graph: Graph) -> dict[str, int]:
    return {activation.id: place for place, activation in enumerate(graph.activations)}
