"""Schedule: Graph to a Plan without views. Which activation runs when, and what each one does."""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from masc.compiler.ir.graph import Graph
from masc.compiler.ir.plan import Answer, BaseModel, Loss, Operation, Plan, PlanAgent, Prefill, Think


def order(graph: Graph) -> tuple[str, ...]:
    """Activations such that senders come first; among those that could be next, the one mentioned first."""
    names = [activation.id for activation in graph.activations]
    rank = {name: i for i, name in enumerate(names)}
    waiting = {name: len(graph.incoming(name)) for name in names}
    receivers: dict[str, list[str]] = {}
    for edge in graph.edges:
        receivers.setdefault(edge.sender, []).append(edge.receiver)
    ready = [rank[name] for name in names if not waiting[name]]
    heapify(ready)
    done: list[str] = []
    while ready:
        done.append(names[heappop(ready)])
        for receiver in receivers.get(done[-1], ()):
            waiting[receiver] -= 1
            if not waiting[receiver]:
                heappush(ready, rank[receiver])
    return tuple(done)


def schedule(graph: Graph) -> Plan:
    """Per activation prefill, then think if it has latent steps, then answer if what it says leaves it (as an output,
    or as text to another agent); losses at the end."""
    agent_of = {activation.id: graph.agent(activation.agent) for activation in graph.activations}
    gives = {activation: output for output, activation in graph.outputs}
    tells = {edge.sender for edge in graph.edges if edge.kind == "text"}
    operations: list[Operation] = []
    for name in order(graph):
        agent = agent_of[name]
        operations.append(Prefill(name, (), ()))
        if agent.steps:
            operations.append(Think(name, agent.steps, agent.align, agent.gradient == "stop"))
        if (name in gives or name in tells) and agent.answer is not None:
            operations.append(Answer(name, gives.get(name), agent.answer))
    columns = dict(graph.labels)
    operations += [Loss(output, columns[output], ()) for output, _ in graph.outputs]
    for answer in [o for o in operations if isinstance(o, Answer)]:
        if answer.output is None and (agent := agent_of[answer.activation]).name in columns:
            operations.append(Loss(answer.activation, columns[agent.name], ()))
    return Plan(
        name=graph.name,
        inputs=graph.inputs,
        outputs=tuple(output for output, _ in graph.outputs),
        models=tuple(BaseModel(model.name, model.target) for model in graph.models),
        agents=tuple(PlanAgent(a.name, a.model, a.lora, a.system, a.user) for a in graph.agents),
        operations=tuple(operations),
        train=graph.train,
    )
