"""The gates of a trained artifact, read without torch: how far each edge is open."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from masc.compiler.artifact.layout import CHANNELS
from masc.compiler.artifact.read import Artifact, read_weights
from masc.compiler.channels.gate import TENSOR, gate_of
from masc.compiler.forms.plan_text import reach_text
from masc.compiler.ir.graph import Edge, Graph
from masc.compiler.ir.plan import Across, agent_of
from masc.dsl.diagnostics import fail

_NUMBER = {"F32": "<f", "F64": "<d"}
_HEADER = 8
"""Bytes of a safetensors file that say how long its header is."""


def gates_of(artifact: Artifact) -> dict[str, float]:
    """How far the gates of edges are open, from 0 to 1, by the edge's name (`kv(a, b)`); empty where the artifact has
    no gates, or is not trained. E0617 where its weights are damaged."""
    data = read_weights(artifact, CHANNELS).get(CHANNELS) if artifact.manifest.trained else None
    return {} if data is None else gates_in(data)


def gates_in(data: bytes) -> dict[str, float]:
    """The same of the bytes of `channels.safetensors`. E0617 where they are none."""
    found: dict[str, float] = {}
    for name, about, body in _tensors(data):
        edge, gate, rest = name.partition("." + TENSOR)
        if gate and not rest:
            form = _NUMBER.get(about["dtype"])
            if form is None or about["shape"] or len(body) != struct.calcsize(form):
                raise fail("E0617", f"`{CHANNELS}` is damaged: `{name}` is no number")
            (number,) = struct.unpack(form, body)
            if not math.isfinite(number):
                raise fail("E0617", f"`{CHANNELS}` is damaged: `{name}` is not finite")
            found[edge] = gate_of(number)
    return found


def only(data: bytes, kept: Callable[[str], bool]) -> bytes | None:
    """The bytes of `channels.safetensors` with those tensors alone whose names are kept; None: none is left."""
    header: dict[str, Any] = {}
    bodies: list[bytes] = []
    at = 0
    for name, about, body in _tensors(data):
        if kept(name):
            header[name] = {**about, "data_offsets": [at, at + len(body)]}
            bodies.append(body)
            at += len(body)
    if not header:
        return None
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that numbers stand at places that are multiples of their size
    return struct.pack("<Q", len(text)) + text + b"".join(bodies)


def _tensors(data: bytes) -> Iterator[tuple[str, Mapping[str, Any], bytes]]:
    """The tensors of a safetensors file in the order of their places: name, what the header says, bytes."""
    try:
        (size,) = struct.unpack("<Q", data[:_HEADER])
        header = json.loads(data[_HEADER : _HEADER + size])
        header.pop("__metadata__", None)
        for name, about in sorted(header.items(), key=lambda item: int(item[1]["data_offsets"][0])):
            first, last = about["data_offsets"]
            yield str(name), about, data[_HEADER + size + first : _HEADER + size + last]
    except (struct.error, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise fail("E0617", f"`{CHANNELS}` is damaged: {error}") from None


def name_of(edge: Edge) -> str:
    """What the trained part of an edge is called, of whatever round: `kv(a, b)`."""
    sender, receiver = (agent_of(end) or end for end in (edge.sender, edge.receiver))
    return reach_text(Across(edge.kind, sender, receiver))


def with_gates(graph: Graph, gates: Mapping[str, float]) -> Graph:
    """The graph whose edges say how far their gates are open, for drawings."""
    edges = (replace(edge, gate=gates[name_of(edge)]) if name_of(edge) in gates else edge for edge in graph.edges)
    return replace(graph, edges=tuple(edges))
