"""What the page tells about the agent or edge that was clicked, in words: facts, prompts, and what the plan decided."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from masc.backends.diagram.inline import edge_key, node_key
from masc.backends.diagram.rolled import rolled
from masc.backends.diagram.sketch import Weights
from masc.compiler.analysis.keep import keep
from masc.compiler.analysis.reach import while_open, with_reach
from masc.compiler.channels import CHANNELS
from masc.compiler.forms.plan_text import gate_text
from masc.compiler.ir.adapter import adapter_text
from masc.compiler.ir.graph import Agent, Edge, Graph
from masc.compiler.ir.model import told_text
from masc.compiler.ir.plan import (
    Across,
    LatentMap,
    Plan,
    PlanAgent,
    Reach,
    Slot,
    Template,
    TraceOf,
    Turn,
    View,
    agent_of,
)
from masc.compiler.ir.words import number_text, quote
from masc.compiler.passes.optimise import optimise
from masc.compiler.passes.place import place
from masc.compiler.passes.schedule import schedule
from masc.dsl.source import Span

Rows = list[tuple[str, str]]
Section = dict[str, Any]
"""A `title` and either `rows` (name, value) or a `prompt`: texts and, as [name], what is put in."""


def panels(graph: Graph, weights: Weights | None = None) -> dict[str, dict[str, Any]]:
    """By the key of a node or an edge (see `inline.py`): a `title` and `sections`, plain data."""
    plan = _plan(graph)
    opened = while_open(plan, {})
    told: dict[str, dict[str, Any]] = {}
    for agent in graph.agents:
        rounds = [a.id for a in graph.activations if a.agent == agent.name]
        told[node_key("agent", agent.name)] = _panel(agent.name, _agent(graph, plan, opened, agent, rounds))
        for activation in rounds:
            told[node_key("agent", activation)] = _panel(activation, _agent(graph, plan, opened, agent, [activation]))
    for edge in (*rolled(graph), *graph.edges):
        title = f"{edge.sender} -> {edge.receiver}"
        told[edge_key(edge.sender, edge.receiver, edge.kind)] = _panel(title, [_edge(edge, weights or {})])
    for name in graph.inputs:
        readers = [a.name for a in graph.agents if name in _slots(a)]
        rows = [("read by", ", ".join(readers) or "nobody")]
        told[node_key("input", name)] = _panel(name, [{"title": "Input", "rows": rows}])
    labels = dict(graph.labels)
    for name, activation in graph.outputs:
        rows = [("given by", activation)] + [("trained on", f"column {labels[name]}")] * (name in labels)
        told[node_key("output", name)] = _panel(name, [{"title": "Output", "rows": rows}])
    return told


def _plan(graph: Graph) -> Plan:
    """The graph's plan, as the pipeline makes it."""
    placed, _ = place(graph, schedule(graph))
    return keep(optimise(with_reach(placed, {})))


def _panel(title: str, sections: Iterable[Section]) -> dict[str, Any]:
    return {"title": title, "sections": list(sections)}


def _agent(
    graph: Graph, plan: Plan, opened: Mapping[int, Plan], agent: Agent, rounds: Sequence[str]
) -> Iterator[Section]:
    model = next(m for m in graph.models if m.name == agent.model)
    rows = [("model", f"{agent.model} = {quote(model.target)}{model.loading.text}")]
    rows += [("adapter", adapter_text(agent.lora, agent.shares, "panel"))]
    if agent.variables:
        rows.append(("template", told_text(tuple((one.name, one.value) for one in agent.variables))))
    stop = ", no gradient from step to step" if agent.gradient == "stop" else ""
    rows.append(("latents", f"{agent.steps}, align = {agent.align}{stop}" if agent.steps else "none"))
    rows.append(("answers", _sampling(agent)))
    rows += [("trained on", f"column {column}") for name, column in graph.labels if name == agent.name]
    yield {"title": "Agent", "rows": [*rows, ("written at", _where(agent.span))]}
    if agent.system is not None:
        yield {"title": "System", "prompt": _prompt(agent.system)}
    yield {"title": "User", "prompt": _prompt(agent.user)}
    for activation in rounds:
        yield {"title": f"Activation {activation}", "rows": _turn(plan.turn(activation))}
    reached = _reached(agent, plan)
    if not reached:
        for until, then in opened.items():
            only = f"only in the first {until} steps of training, while a channel is open"
            reached = [(output, f"{column}, {only}") for output, column in _reached(agent, then)] or reached
    yield {"title": "Losses that reach it", "rows": reached or [("none", "nothing trains this agent")]}


def _reached(agent: Agent, plan: Plan) -> Rows:
    """The losses that reach something of an agent's."""
    own = plan.agent(agent.name)
    losses = [loss for loss in plan.losses if any(_trains(reach, own) for reach in loss.reaches)]
    return [(loss.output, f"column {loss.column}") for loss in losses]


def _trains(reach: Reach | LatentMap | Across, agent: PlanAgent) -> bool:
    """Whether what a loss reaches is an agent's."""
    if isinstance(reach, Across):
        return False
    return reach.agent == (agent.adapter if isinstance(reach, Reach) else agent.name)


def _turn(turn: Turn) -> Rows:
    rows: Rows = [_view(view) for view in turn.sees]
    rows += [(f"{arrival.word} {arrival.segment}", arrival.told) for arrival in turn.arrives]
    ends = [f"end of {end.segment}" + "".join(f" + length of {s}" for s in end.shift) for end in turn.at]
    rows = rows or [("sees", "nothing but its own prompt")]
    rows.append(("starts at", " or ".join(ends) + (", the largest" * (len(ends) > 1)) if ends else "position 0"))
    wrote = ["its prompt"]
    if turn.think is not None:
        wrote.append(f"{turn.think.steps} latent positions")
    if turn.answer is not None:
        to = f" -> {turn.answer.output}" if turn.answer.output else ", for other agents"
        wrote.append(f"up to {turn.answer.sampling.max_tokens} tokens{to}")
    return [*rows, ("writes", ", ".join(wrote))]


def _edge(edge: Edge, weights: Weights) -> Section:
    rows: Rows = [("kind", edge.kind)]
    channel = CHANNELS[edge.kind]
    told = ((name, option.panel(option.of(edge))) for name, option in channel.options.items())
    rows += [(name, value) for name, value in told if value]
    rows += channel.rows
    weight = weights.get((agent_of(edge.sender) or edge.sender, agent_of(edge.receiver) or edge.receiver))
    if weight is not None:
        rows.append(("carries", f"{weight:.0%}"))
    return {"title": "Edge", "rows": [*rows, ("written at", _where(edge.span))]}


def _sampling(agent: Agent) -> str:
    answer = agent.answer
    if answer is None:
        return "never"
    words = [f"up to {answer.max_tokens} tokens"]
    if answer.temperature:
        words.append(f"temperature = {number_text(answer.temperature)}, top_p = {number_text(answer.top_p)}")
        words.append(f"seed = {answer.seed}")
    else:
        words.append("greedy")
    return ", ".join([*words, *(f"stops at {quote(stop)}" for stop in answer.stop)])


def _view(view: View | TraceOf) -> tuple[str, str]:
    """What is seen, and how."""
    trace = isinstance(view, TraceOf)
    what = "all that it sees, and its segment" if trace else "all of its segment"
    if isinstance(view, View) and view.part == "latents":
        what = "its latents"
    words = [what, _layers(view.layers)]
    words += [f"moved by the length of {segment}" for segment in view.shift]
    words += [f"only in the first {view.until} steps of training"] * (view.until is not None)
    words += [f"as far as the gate {gate_text(gate)} is open" for gate in view.gates]
    words += ["nothing of it: cut"] * view.cut
    return f"sees {view.segment}", ", ".join(words) + _stop(view.stop)


def _layers(layers: tuple[tuple[int, int], ...] | None) -> str:
    return "all layers" if layers is None else "layers " + ", ".join(f"{first}..{last}" for first, last in layers)


def _stop(stop: bool) -> str:
    return ", no gradient" if stop else ""


def _prompt(template: Template) -> list[str | list[str]]:
    return [[part.name] if isinstance(part, Slot) else part for part in template]


def _slots(agent: Agent) -> set[str]:
    return {part.name for part in (*(agent.system or ()), *agent.user) if isinstance(part, Slot)}


def _where(span: Span) -> str:
    return f"{span.source.path}:{span.line}:{span.column}"
