"""Resolving the graph block: statements to links between agents, and which agent gives which output."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from masc.compiler.channels import CHANNELS, PLAIN
from masc.compiler.ir.graph import Agent, Edge
from masc.compiler.ir.resolved import Give, Link, Rounds, links_of
from masc.compiler.language.agents import ROUNDS
from masc.compiler.language.values import Scope, duplicate, read_value
from masc.compiler.resolve.channel import resolve_channel
from masc.dsl import syntax
from masc.dsl.diagnostics import Label, did_you_mean
from masc.dsl.limits import EDGES, SHOWN
from masc.dsl.source import Span


@dataclass(frozen=True)
class Wiring:
    inputs: tuple[syntax.Name, ...]
    outputs: tuple[syntax.Name, ...]
    mentions: tuple[str, ...]
    body: tuple[Link | Rounds, ...]
    telling: tuple[str, ...]
    """Agents with a text edge: what they say can be supervised."""
    gives: tuple[Give, ...]


@dataclass
class _Reading:
    """What has been understood so far of one graph block."""

    scope: Scope
    agents: Mapping[str, Agent]
    unread: Set[str]
    """Names that stand for no agent because something is wrong where they come from: that has been said."""
    inputs: dict[str, Span] = field(default_factory=dict)
    outputs: dict[str, Span] = field(default_factory=dict)
    mentions: dict[str, None] = field(default_factory=dict)
    links: dict[tuple[str, str, str], Link] = field(default_factory=dict)
    gives: dict[str, Give] = field(default_factory=dict)
    given: dict[str, Give] = field(default_factory=dict)
    """By agent: the first output that it gives."""
    giving: set[str] = field(default_factory=set)
    """Agents with an edge to an output, whether it was accepted or complained about."""
    groups: int = 0
    written: int = 0
    """How many edges the lines so far stand for."""


def resolve_graph(
    scope: Scope,
    graph: syntax.Graph,
    agents: Mapping[str, Agent],
    written: Mapping[str, syntax.Agent],
    foreign: Set[str],
) -> Wiring:
    """Read the statements of a graph block in order; what cannot be understood is left out and complained about."""
    reading = _Reading(scope, agents, foreign)
    inputs = _unique(scope, "input", graph.inputs, reading.inputs)
    outputs = _unique(scope, "output", graph.outputs, reading.outputs)
    for what, names in (("input", reading.inputs), ("output", reading.outputs)):
        for name, span in names.items():
            if name in agents:
                message = f"`{name}` is both an agent and an {what} of the graph"
                label = Label(agents[name].span, "the agent")
                scope.complain("E0204", message, span, "rename one of them", label)
    body = _limited(reading, graph, _alike(_body(reading, graph.body, 1)))
    _outputs(reading, graph, written)
    telling = tuple(dict.fromkeys(x.edge.sender for x in reading.links.values() if CHANNELS[x.edge.kind].words))
    return Wiring(inputs, outputs, tuple(reading.mentions), body, telling, tuple(reading.gives.values()))


def _unique(scope: Scope, what: str, names: tuple[syntax.Name, ...], first: dict[str, Span]) -> tuple[syntax.Name, ...]:
    for name in names:
        if name.text in first:
            duplicate(scope, f"the {what} `{name.text}`", name.span, first[name.text])
        first.setdefault(name.text, name.span)
    named = {name.text: name for name in reversed(names)}
    return tuple(named[text] for text in first)


def _body(reading: _Reading, statements: tuple[syntax.Statement, ...], depth: int) -> tuple[Link | Rounds, ...]:
    """The edges and repeats of a block. depth: 1, and 1 more for each repeat around it."""
    found: list[Link | Rounds] = []
    for statement in statements:
        if isinstance(statement, syntax.Edge):
            found += _edge(reading, statement)
        elif isinstance(statement, syntax.Lone):
            _classify(reading, statement.name, lone=True)
        elif isinstance(statement, syntax.Repeat):
            found += _rounds(reading, statement, depth)
    return tuple(found)  # instances are agents by now


def _limited(reading: _Reading, graph: syntax.Graph, body: tuple[Link | Rounds, ...]) -> tuple[Link | Rounds, ...]:
    """The body, if it unrolls to no more edges than there may be; else with one round of each repeat."""
    edges = sum(item.runs if isinstance(item, Rounds) else 1 for item in body)
    if edges > EDGES:
        message = f"this graph unrolls to {edges:,} edges: the most is {EDGES:,}"
        reading.scope.complain("E0322", message, graph.name.span, "use fewer rounds, or fewer edges in each")
        return tuple(item.once() if isinstance(item, Rounds) else item for item in body)
    return body


def _alike(body: tuple[Link | Rounds, ...]) -> tuple[Link | Rounds, ...]:
    """Edges that say nothing of an option that all of their kind into one agent share have what those say that do."""
    said: dict[tuple[str, str, str], Any] = {}
    for link in links_of(body):
        for option in CHANNELS[link.edge.kind].options.values():
            if option.shared and link.says(option.name):
                said[link.edge.kind, link.edge.receiver, option.name] = option.of(link.edge)
    if not said:
        return body

    def settled(item: Link | Rounds) -> Link | Rounds:
        if isinstance(item, Rounds):
            return replace(item, body=tuple(settled(inner) for inner in item.body))
        edge, options = item.edge, CHANNELS[item.edge.kind].options.values()
        others = {
            option.field or option.name: said[edge.kind, edge.receiver, option.name]
            for option in options
            if (edge.kind, edge.receiver, option.name) in said and not item.says(option.name)
        }
        return replace(item, edge=replace(edge, **others)) if others else item

    return tuple(settled(item) for item in body)


def _rounds(reading: _Reading, statement: syntax.Repeat, depth: int) -> list[Rounds]:
    scope = reading.scope
    span = Span(statement.span.source, statement.span.start, statement.span.start + len("repeat"))
    count = read_value(scope, ROUNDS, "repeat", statement.count) or 1
    body = _body(reading, statement.body, depth + 1)
    rounds = Rounds(count, body, span)
    if depth == 1 and (edges := rounds.runs) > EDGES:  # the outermost one counts all that stand in it
        message = f"this `repeat` unrolls to {edges:,} edges: the most is {EDGES:,}"
        scope.complain("E0322", message, statement.count.span, "fewer rounds do")
        rounds = rounds.once()
    if not body:
        if not any(isinstance(inner, syntax.Edge | syntax.Repeat) for inner in statement.body):
            scope.complain("E0323", "this `repeat` holds no edge", span, "write the edges of a round into it")
        return []
    return [rounds]


def _classify(reading: _Reading, name: syntax.Name, lone: bool = False) -> str | None:
    """What a name is: an "agent", an "output", or None if it cannot be followed (complained about if it is unknown)."""
    text = name.text
    if text in reading.agents:
        reading.mentions.setdefault(text)
        return "agent"
    if text in reading.outputs and not lone:
        return "output"
    reading.scope.lost.add("graph")
    if text in reading.unread:
        return None
    if text in reading.inputs:
        message = f"`{text}` is an input, and edges join agents"
        hint = f"an agent reads it where its prompt says `{{{text}}}`"
        reading.scope.complain("E0201", message, name.span, hint)
        return None
    reading.scope.complain(
        "E0201",
        f"there is no agent `{text}`",
        name.span,
        lambda: did_you_mean(text, [*reading.agents, *([] if lone else reading.outputs)]) or _known(reading),
    )
    return None


def _known(reading: _Reading) -> str | None:
    """What an edge can join, where that is not too much to say."""
    parts = [("agents are", list(reading.agents)), ("outputs", list(reading.outputs))]
    said = [f"the {what} {', '.join(names)}" for what, names in parts if 0 < len(names) <= 8]
    return "; ".join(said) or None


def _edge(reading: _Reading, edge: syntax.Edge) -> list[Link]:
    scope, channel = reading.scope, edge.channel
    plain = syntax.Channel(edge.span, syntax.Name(edge.span, PLAIN.kind), ())  # between agents, where none is written
    options = resolve_channel(scope, channel or plain)
    found: list[Link] = []
    kinds = [[(name, _classify(reading, name)) for name in stage.names] for stage in edge.stages]
    said: set[str] = set()
    for left, right in pairwise(kinds):
        reading.groups += 1
        if _too_many(reading, edge, len(left) * len(right)):
            break
        for sender, kind in left:
            for receiver, other in right:
                span = sender.span.to(receiver.span)
                if kind is None or other is None:
                    continue
                if kind == "output":
                    if "E0308" not in said:
                        message = f"`{sender.text}` is an output: no edge leads on from it"
                        scope.complain("E0308", message, sender.span, "end the chain there", _declared(reading, sender))
                    said.add("E0308")
                    scope.lost.add("graph")
                elif other == "output" and channel is None:
                    _give(reading, Give(sender.text, receiver.text, span))
                elif other == "output":
                    if "E0308" not in said:
                        message = f"`{receiver.text}` is an output, and an edge to an output takes no channel"
                        hint = f"write it on a line of its own: `{sender.text} -> {receiver.text}`"
                        scope.complain("E0308", message, receiver.span, hint, _declared(reading, receiver))
                    said.add("E0308")
                    scope.lost.add("graph")
                elif options is not None:
                    found += _link(reading, sender, receiver, channel or plain, options)
    return found


def _too_many(reading: _Reading, edge: syntax.Edge, count: int) -> bool:
    """Whether these edges are more than there may be with those before; complained about once."""
    before, reading.written = reading.written, reading.written + count
    if reading.written <= EDGES:
        return False
    if before <= EDGES:
        message = f"with this line the graph has {reading.written:,} edges: the most is {EDGES:,}"
        hint = "`[a, b] -> [c, d]` is an edge for every pair: with an agent in between there are fewer"
        reading.scope.complain("E0322", message, edge.span, hint)
        reading.scope.lost.add("graph")
    return True


def _declared(reading: _Reading, output: syntax.Name) -> Label:
    return Label(reading.outputs[output.text], "the output")


def _link(
    reading: _Reading, sender: syntax.Name, receiver: syntax.Name, channel: syntax.Channel, options: dict[str, Any]
) -> list[Link]:
    span = sender.span.to(receiver.span)
    key = sender.text, receiver.text, options["kind"]
    if sender.text == receiver.text:
        reading.scope.complain(
            "E0303",
            f"`{sender.text}` cannot send to itself",
            span,
            "an agent sees its own prompt and latent steps anyway",
        )
        return []
    if key in reading.links:
        label = Label(reading.links[key].edge.span, "first given here")
        message = f"the `{key[2]}` edge from `{sender.text}` to `{receiver.text}` is written twice"
        reading.scope.complain("E0304", message, span, "keep one of them", label)
        return []
    link = Link(Edge(*key[:2], group=reading.groups, span=span, **options), channel)
    reading.links[key] = link
    return [link]


def _give(reading: _Reading, give: Give) -> None:
    scope = reading.scope
    reading.giving.add(give.agent)
    if (first := reading.gives.get(give.output)) is not None:
        same = first.agent == give.agent
        message = f"the edge from `{give.agent}` to `{give.output}` is written twice"
        if not same:
            message = f"`{first.agent}` and `{give.agent}` both give the output `{give.output}`"
        label = Label(first.span, "first given here" if same else f"`{first.agent}` gives it here")
        scope.complain("E0304" if same else "E0310", message, give.span, "keep one of them", label)
        return
    if (other := reading.given.setdefault(give.agent, give)) is not give:
        message = f"`{give.agent}` has one answer, and it is the output `{other.output}` already"
        scope.complain("E0312", message, give.span, "let another agent give it", Label(other.span, "given here"))
    if reading.agents[give.agent].answer is None:
        message = f"`{give.agent}` gives the output `{give.output}`, but it has no `answer` line"
        label = Label(reading.agents[give.agent].span, f"`{give.agent}` is declared here")
        scope.complain("E0311", message, give.span, "add `answer (max_tokens = 128)` to it", label)
    reading.gives[give.output] = give


def _outputs(reading: _Reading, graph: syntax.Graph, written: Mapping[str, syntax.Agent]) -> None:
    """Give the one output to the one answering agent where nothing is said, and hold the rest against the header."""
    scope = reading.scope
    answering = [name for name in reading.mentions if reading.agents[name].answer is not None]
    telling = {link.edge.sender for link in reading.links.values() if CHANNELS[link.edge.kind].words}
    # Who speaks to other agents gives the output only where nobody else does, or where the graph says so.
    giving = [name for name in answering if name not in telling] or answering
    if not graph.outputs and "graph" not in scope.lost:
        message = "the graph has no output, so nothing could be trained or shown"
        scope.complain("E0309", message, graph.name.span, "name one: `graph name(question) -> answer { ... }`")
        return
    open_outputs = [name for name in reading.outputs if name not in reading.gives]
    if not reading.gives and len(reading.outputs) == 1 and len(giving) == 1:
        output = open_outputs.pop()
        reading.gives[output] = Give(giving[0], output, reading.agents[giving[0]].span)
    if not reading.gives and len(reading.outputs) == 1 and len(giving) > 1 and "graph" not in scope.lost:
        output = open_outputs.pop()
        both = " and ".join(f"`{name}`" for name in giving[:SHOWN])
        both += f" and {len(giving) - SHOWN} more" if len(giving) > SHOWN else ""
        labels = [Label(_answer(written[name]), f"`{name}` answers") for name in giving[:SHOWN]]
        hint = f"say which: `{giving[-1]} -> {output}`"
        scope.complain("E0310", f"{both} could both give the output `{output}`", reading.outputs[output], hint, *labels)
        return
    if "graph" in scope.lost:
        return
    for output in open_outputs:
        hint = "give the agent that speaks last an `answer` line"
        if answering:
            hint = f"write `{giving[-1]} -> {output}`"
        scope.complain("E0309", f"no agent gives the output `{output}`", reading.outputs[output], hint)
    given = reading.giving | {give.agent for give in reading.gives.values()}
    sending = {link.edge.sender for link in reading.links.values()}
    for name in answering if not open_outputs else ():
        if name in given or name in telling:
            continue
        if name in sending:
            message = f"`{name}` never decodes in this graph: its `answer` line is used with `--channel text` only"
            scope.complain("I0675", message, _answer(written[name]))
        else:
            message = f"`{name}` has an `answer` line, but nothing uses what it says"
            hint = f"remove the line, or make it an output: `{name} -> ...`"
            scope.complain("E0313", message, _answer(written[name]), hint)


def _answer(agent: syntax.Agent) -> Span:
    return next(m.span for m in agent.members if isinstance(m, syntax.Answer))
