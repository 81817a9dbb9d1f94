"""Controls: graphs made from a graph, to hold the team against (`masc compare`).

Each is a pure function on the graph level; `pipeline.lower` compiles what it returns like any other graph. The text
channel (`channel.py`) is one more.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from masc.compiler.channels import CHANNELS
from masc.compiler.ir.adapter import Lora
from masc.compiler.ir.graph import Activation, Agent, Graph
from masc.compiler.ir.plan import Slot, Template, agent_of
from masc.compiler.passes.order import order, upstream


def stopped(graph: Graph) -> Graph:
    """The same team, but no gradient crosses an edge: those who answer learn to read what others happen to write."""
    edges = (edge if CHANNELS[edge.kind].words else replace(edge, gradient="stop") for edge in graph.edges)
    return replace(graph, edges=tuple(edges))


def reaching(graph: Graph) -> Graph:
    """The same team, and a gradient crosses every edge but those of words, and passes from latent step to latent step:
    the other reading of what a channel is."""
    edges = (edge if CHANNELS[edge.kind].words else replace(edge, gradient="full") for edge in graph.edges)
    agents = (replace(agent, gradient="full") for agent in graph.agents)
    return replace(graph, edges=tuple(edges), agents=tuple(agents))


def unthinking(graph: Graph) -> Graph:
    """The same team with zero latent steps: agents hand on what they have read, and nothing that they thought."""
    return replace(graph, agents=tuple(replace(agent, steps=0) for agent in graph.agents))


def alone(graph: Graph, output: str, lora: Lora | None = None) -> Graph:
    """The agent that gives an output, alone: its own prompt (places of senders left out), no latent steps, nothing
    that others send. lora: its adapter (None: its own)."""
    agent = _answering(graph, output)
    return _one(
        graph, output, replace(agent, system=_own(graph, agent.system), user=_own(graph, agent.user) or ()), lora
    )


def thinking(graph: Graph, output: str, lora: Lora | None = None) -> Graph:
    """The same agent, alone, with as many latent steps as all of the team takes in all rounds; how they are made is its
    own way, or where it has none that of the first that thinks."""
    found = alone(graph, output, lora)
    known = {agent.name: agent for agent in graph.agents}
    steps = sum(known[agent_of(activation.id)].steps for activation in graph.activations)
    (agent,) = found.agents
    how = next((each for each in (known[agent.name], *graph.agents) if each.steps), known[agent.name])
    return replace(found, agents=(replace(agent, steps=steps, align=how.align, gradient=how.gradient),))


def pooled(graph: Graph, output: str, lora: Lora | None = None) -> Graph:
    """One agent that reads what all of them read: the prompts of every agent upstream of an output, one after the
    other, then that of the agent that gives it."""
    agent = _answering(graph, output)
    texts: list[Template] = []
    for name in _upstream(graph, output):
        other = graph.agent(name)
        texts += [other.system, other.user] if other.system is not None else [other.user]
    own = [text for text in (_own(graph, text) for text in (*texts, agent.user)) if text]
    user: Template = ()
    for text in own:
        user = (*user, "\n\n", *text) if user else text
    return _one(graph, output, replace(agent, system=_own(graph, agent.system), user=_joined(user)), lora)


def wider(graph: Graph, output: str, lora: Lora | None) -> Graph:
    """The same team, where the agent that gives an output has another adapter (None: its own), one of its own."""
    if lora is None:
        return graph
    name = _answering(graph, output).name
    agents = (replace(each, lora=lora, shares=None) if each.name == name else each for each in graph.agents)
    return replace(graph, agents=tuple(agents))


def is_latent_chain(graph: Graph) -> bool:
    """Whether a graph is what LatentMAS and DiffMAS run: one chain of at least two agents, each active once, of which
    all but the last think in latent steps and hand on the whole trace of keys and values."""
    order_of = order(graph)
    links = {(e.sender, e.receiver) for e in graph.edges if CHANNELS[e.kind].views and e.carry == "trace"}
    return (
        len(order_of) > 1
        and len(graph.edges) == len(links)
        and links == set(pairwise(order_of))
        and all(graph.agent(agent_of(name)).steps > 0 for name in order_of[:-1])
        and len({agent_of(name) for name in order_of}) == len(order_of)
        and all(edge.layers is None for edge in graph.edges)
    )


def unread(graph: Graph, output: str) -> tuple[str, ...]:
    """Inputs that only agents upstream of an output read: what the answering agent can learn from others alone."""
    own = _inputs(graph, _answering(graph, output))
    read = (name for agent in _upstream(graph, output) for name in _inputs(graph, graph.agent(agent)))
    return tuple(dict.fromkeys(name for name in read if name not in own))


def _answering(graph: Graph, output: str) -> Agent:
    return graph.agent(agent_of(dict(graph.outputs)[output]))


def _upstream(graph: Graph, output: str) -> tuple[str, ...]:
    """The agents of which something may arrive at an output, senders first, without the one that gives it."""
    found = upstream(graph, dict(graph.outputs)[output])
    answering = _answering(graph, output).name
    names = (agent_of(name) for name in order(graph) if name in found)
    return tuple(dict.fromkeys(name for name in names if name != answering))


def _inputs(graph: Graph, agent: Agent) -> set[str]:
    slots = (part.name for part in (*(agent.system or ()), *agent.user) if isinstance(part, Slot))
    return {name for name in slots if name in graph.inputs}


def _own(graph: Graph, template: Template | None) -> Template | None:
    """A prompt without the places of senders; None where nothing is left."""
    if template is None:
        return None
    kept = tuple(part for part in template if isinstance(part, str) or part.name in graph.inputs)
    return _joined(kept) or None


def _joined(template: Template) -> Template:
    """Neighbouring texts as one, no blanks at the ends."""
    found: list[str | Slot] = []
    for part in template:
        if isinstance(part, str) and found and isinstance(found[-1], str):
            found[-1] += part
        else:
            found.append(part)
    if found and isinstance(found[0], str):
        found[0] = found[0].lstrip()
    if found and isinstance(found[-1], str):
        found[-1] = found[-1].rstrip()
    return tuple(part for part in found if part != "")


def _one(graph: Graph, output: str, agent: Agent, lora: Lora | None) -> Graph:
    """A graph of one agent that gives one output."""
    agent = replace(agent, steps=0, lora=agent.lora if lora is None else lora, shares=None)
    only = Activation(agent.name, 1)
    return replace(
        graph,
        outputs=((output, only.id),),
        models=tuple(model for model in graph.models if model.name == agent.model),
        agents=(agent,),
        activations=(only,),
        edges=(),
        labels=tuple((name, column) for name, column in graph.labels if name == output),
        loops=(),
    )
