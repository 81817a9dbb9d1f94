"""A syntax tree without some edges, and without the agents that are of no use then: what `masc prune` writes."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

from masc.dsl.syntax import (
    Agent,
    Channel,
    Declaration,
    Edge,
    File,
    Graph,
    Group,
    Import,
    Instance,
    Lone,
    Model,
    Name,
    Placeholder,
    Prompt,
    Repeat,
    Say,
    Setting,
    Statement,
    Supervise,
    Train,
)


@dataclass(frozen=True)
class Without:
    """What is taken out. edges: kind, sender, receiver; agents: by name; inputs: of the graph; plain: the kind of an
    edge between agents where none is written; empty: by receiver, the placeholders that nothing fills any more."""

    edges: Collection[tuple[str, str, str]]
    agents: Collection[str]
    inputs: Collection[str]
    plain: str
    empty: Collection[tuple[str, str]]


def pruned(file: File, without: Without) -> File:
    """The tree without all that. Comments stay with what stays. A model goes with the last agent that is on it."""
    declared = [item for item in file.declarations if isinstance(item, Agent)]
    kept = [item for item in declared if item.fields or item.name.text not in without.agents]
    idle = {item.model.text for item in declared} - {item.model.text for item in kept}
    declarations: list[Declaration] = []
    for item in file.declarations:
        match item:
            case Agent():
                declarations += [_filled(item, without)] if item in kept else []
            case Graph():
                inputs = tuple(name for name in item.inputs if name.text not in without.inputs)
                declarations.append(replace(item, inputs=inputs, body=tuple(_statements(item.body, without))))
            case Train():
                entries = (e for e in item.entries if not _idle(e, without))
                declarations.append(replace(item, entries=tuple(entries)))
            case Import():
                names = tuple(name for name in item.names if name.text not in without.agents)
                declarations += [replace(item, names=names)] if names else []
            case Model():
                declarations += [] if item.name.text in idle else [item]
            case _:
                declarations.append(item)
    return replace(file, declarations=tuple(declarations))


def _idle(entry: Supervise | Setting, without: Without) -> bool:
    return isinstance(entry, Supervise) and entry.output.text in without.agents


def _filled(agent: Agent, without: Without) -> Agent:
    """An agent whose prompts have no placeholder that nothing fills."""
    gone = {name for receiver, name in without.empty if receiver == agent.name.text}
    if not gone:
        return agent
    members = (replace(m, prompt=_prompt(m.prompt, gone)) if isinstance(m, Say) else m for m in agent.members)
    return replace(agent, members=tuple(members))


def _prompt(prompt: Prompt, gone: Collection[str]) -> Prompt:
    parts: list[str | Placeholder] = []
    for part in prompt.parts:
        if isinstance(part, Placeholder) and part.name in gone:
            continue
        if isinstance(part, str) and parts and isinstance(parts[-1], str):
            parts[-1] += part
        else:
            parts.append(part)
    return replace(prompt, parts=tuple(parts))


def _statements(body: tuple[Statement, ...], without: Without) -> Iterator[Statement]:
    for item in body:
        match item:
            case Edge():
                yield from _edges(item, without)
            case Repeat():
                inner = tuple(_statements(item.body, without))
                if any(not isinstance(one, Lone) for one in inner):
                    yield replace(item, body=inner)
            case Instance() | Lone() if item.name.text in without.agents:
                pass
            case _:
                yield item


def _edges(edge: Edge, without: Without) -> Iterator[Edge]:
    """An edge as it is, or in pieces that say the same of all pairs that are left, in the same order."""
    kind = without.plain if edge.channel is None else edge.channel.kind.text

    def there(sender: Name, receiver: Name) -> bool:
        ends = {sender.text, receiver.text}
        return not ends & {*without.agents} and (kind, sender.text, receiver.text) not in without.edges

    pairs = [(s, r) for left, right in pairwise(edge.stages) for s in left.names for r in right.names]
    if all(there(*pair) for pair in pairs):
        yield edge
        return
    found: list[Edge] = []
    for left, right in pairwise(edge.stages):
        if len(right.names) == 1:
            senders = tuple(name for name in left.names if there(name, right.names[0]))
            found += [_between(edge, senders, right.names, edge.channel)] if senders else []
            continue
        for sender in left.names:
            receivers = tuple(name for name in right.names if there(sender, name))
            found += [_between(edge, (sender,), receivers, edge.channel)] if receivers else []
    for place, one in enumerate(found):
        yield replace(one, leading=edge.leading, trailing=edge.trailing) if place == 0 else one


def _between(edge: Edge, senders: tuple[Name, ...], receivers: tuple[Name, ...], channel: Channel | None) -> Edge:
    return Edge(edge.span, (Group(edge.span, senders), Group(edge.span, receivers)), channel)
