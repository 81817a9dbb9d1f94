"""What a graph means for gradients, worked out a second time and in another way than the compiler does: edge by edge,
layer by layer, part by part of every segment, with nothing merged and nothing left out.

A segment has four parts: `prompt` (all but its last token), `last`, `latent` and `label`. An atom is one part of one
segment in one layer. Of the prompt the tokens that it shares with another one are told apart (`aligned`): what is fused
are theirs, and nothing that another agent put into the prompt is among them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from masc.compiler.ir.graph import Edge, Graph
from masc.compiler.ir.plan import agent_of
from masc.compiler.passes.order import order

PARTS = ("prompt", "last", "latent", "label")
Atom = tuple[str, str, int]
"""Activation, part, layer."""
Gates = frozenset[tuple[str, str]]
"""Sender and receiver of edges that have a gate."""
Way = tuple[bool, int | None, Gates]
"""One path by which an atom is seen: whether its gradient stops, until which step it is there (None: for good), and
through which gates it leads."""
Node = tuple[str, ...]


@dataclass
class Oracle:
    """layers: by agent how many its model has. sees: by receiver the atoms that it sees, each with all its ways."""

    graph: Graph
    layers: Mapping[str, int]
    labelled: frozenset[str]
    """Activations that read a label or what they said."""
    openness: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """How far the gates of kv edges are open, by sender and receiver: above 0 and below 1."""
    narrower: set[Node] = field(default_factory=set)
    """Gates that would get a gradient if they were open further: beside their paths a wider one leads to the same."""
    sees: dict[str, dict[Atom, set[Way]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for receiver in order(self.graph):
            found: dict[Atom, set[Way]] = {}
            for edge in self.graph.incoming(receiver, "kv"):
                self._carry(edge, edge.carry, None, found)
                if edge.open is not None:
                    self._carry(edge, edge.open.carry, edge.open.steps, found)
            self.sees[receiver] = found

    def _carry(self, edge: Edge, carry: str, until: int | None, found: dict[Atom, set[Way]]) -> None:
        count = self.layers[agent_of(edge.sender)]
        low, high = edge.layers or (0, count - 1)
        stop = edge.gradient == "stop"
        own: Gates = frozenset({(agent_of(edge.sender), agent_of(edge.receiver))} if edge.gate == "learned" else ())
        for part in ("latent",) if carry == "latents" else PARTS:
            for layer in range(low, high + 1):
                if self._has(edge.sender, part):
                    found.setdefault((edge.sender, part, layer), set()).add((stop, until, own))
        for atom, ways in self.sees[edge.sender].items() if carry == "trace" else ():
            if low <= atom[2] <= high:
                for stopped, ends, gates in ways:
                    there = min((end for end in (ends, until) if end is not None), default=None)
                    found.setdefault(atom, set()).add((stopped or stop, there, gates | own))

    def _has(self, activation: str, part: str) -> bool:
        if part == "latent":
            return bool(self.graph.agent(agent_of(activation)).steps)
        return part != "label" or activation in self.labelled

    def full(self, receiver: str, atom: Atom, exists: Callable[[int], bool] = lambda _: False) -> bool:
        """Whether a gradient passes from a receiver to an atom. exists: whether views until a step are there now."""
        return any(
            not stop and (until is None or exists(until)) for stop, until, _ in self.sees[receiver].get(atom, ())
        )

    def seen(self, receiver: str, atom: Atom, exists: Callable[[int], bool] = lambda _: False) -> bool:
        return any(until is None or exists(until) for _, until, _ in self.sees[receiver].get(atom, ()))

    def _widest(self, receiver: str, atom: Atom) -> Gates:
        """The gates on the path by which an atom is seen most clearly."""
        ways = [gates for _, until, gates in self.sees[receiver][atom] if until is None]
        widest = max(ways, key=lambda gates: math.prod(self.openness[gate] for gate in gates), default=frozenset())
        self.narrower |= {("gate", *gate) for gates in ways for gate in gates - widest}
        return widest

    # -- what a loss reaches ---------------------------------------------------------------------------------------

    def reached(self, losses: list[str]) -> tuple[set[Node], set[tuple[str, Atom]]]:
        """From the answers of some activations back: the parameters, and through which views (receiver, atom) the
        gradient went. Parameters: ("kv" | "rest", the agent whose adapter it is, layer), ("link", agent), ("hidden",
        sender, receiver), ("fuse", sender, receiver, the receiver's layer or "gate"), ("gate", sender, receiver) of a
        kv edge."""
        parameters: set[Node] = set()
        views: set[tuple[str, Atom]] = set()
        seen: set[tuple[str, str, str, int]] = set()
        waiting = []
        for name in losses:
            count = self.layers[agent_of(name)]
            waiting += [("hidden", name, part, count) for part in (self._end(name), "label") if self._has(name, part)]
        while waiting:
            node = waiting.pop()
            if node in seen:
                continue
            seen.add(node)
            for behind in self._behind(*node, parameters, views):
                waiting.append(behind)
        return parameters, views

    def _adapter(self, agent: str) -> str:
        return self.graph.agent(agent).shares or agent

    def _end(self, activation: str) -> str:
        return "latent" if self.graph.agent(agent_of(activation)).steps else "last"

    def _behind(
        self, kind: str, name: str, part: str, layer: int, parameters: set[Node], views: set[tuple[str, Atom]]
    ) -> Iterator[tuple[str, str, str, int]]:
        """kind: "hidden", the state of a part before a layer (after the last one: its number is the count), "own", its
        keys and values before anything is fused into them, or "keys", as others see them."""
        agent = agent_of(name)
        if kind == "own":
            parameters.add(("kv", self._adapter(agent), str(layer)))
            yield "hidden", name, part, layer
            return
        if kind == "keys":
            yield "own", name, part, layer
            if part in ("prompt", "aligned"):
                yield from self._fused(name, layer, parameters)
            return
        if layer > 0:
            parameters.add(("rest", self._adapter(agent), str(layer - 1)))
            yield "hidden", name, part, layer - 1
            if part == "aligned":
                yield "own", name, "prompt", layer - 1
            for before in PARTS[: PARTS.index(part) + 1] if part != "aligned" else ():
                if self._has(name, before):
                    # The prompt reads its own keys as they were; what comes after it reads the fused ones.
                    yield "own" if part == "prompt" else "keys", name, before, layer - 1
            for atom in self.sees[name]:
                if atom[2] == layer - 1:
                    parameters.update(("gate", *gate) for gate in self._widest(name, atom))
                if atom[2] == layer - 1 and self.full(name, atom):
                    views.add((name, atom))
                    yield "keys", atom[0], atom[1], layer - 1
            return
        if part == "latent":
            spec = self.graph.agent(agent)
            if spec.align == "linear":
                parameters.add(("link", agent))
            if spec.gradient == "full":
                for before in ("last", "latent"):
                    yield "hidden", name, before, self.layers[agent]
        if part in ("prompt", "last"):
            for edge in self.graph.incoming(name, "hidden"):
                parts = ("latent",) if edge.carry == "latents" else ("prompt", "last", "latent")
                there = [p for p in parts if self._has(edge.sender, p)]
                if there:
                    parameters.add(("hidden", agent_of(edge.sender), agent))
                for sent in there if edge.gradient == "full" else ():
                    yield "hidden", edge.sender, sent, self.layers[agent_of(edge.sender)]

    def _fused(self, name: str, layer: int, parameters: set[Node]) -> Iterator[tuple[str, str, str, int]]:
        agent = agent_of(name)
        for edge in self.graph.incoming(name, "fuse"):
            sender = agent_of(edge.sender)
            low, high = edge.layers or (0, self.layers[agent] - 1)
            shift = self.layers[agent] - self.layers[sender]
            if low <= layer <= high and layer >= shift:
                parameters |= {("fuse", sender, agent, str(layer)), ("fuse", sender, agent, "gate")}
                if edge.gradient == "full":
                    yield "keys", edge.sender, "aligned", layer - shift
