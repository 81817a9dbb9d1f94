"""Schedule: Graph to a Plan whose turns see nothing yet. Which one is when, and what each of them does."""

from __future__ import annotations

from masc.compiler.channels import CHANNELS
from masc.compiler.ir.graph import Agent, Graph
from masc.compiler.ir.plan import Answer, BaseModel, Loss, Plan, PlanAgent, Think, Turn
from masc.compiler.passes.order import order


def _agent(agent: Agent) -> PlanAgent:
    told = tuple((one.name, one.value) for one in agent.variables)
    return PlanAgent(agent.name, agent.model, agent.lora, agent.system, agent.user, agent.shares, told)


def schedule(graph: Graph) -> Plan:
    """A turn for each activation: it thinks if it has latent steps, and answers if what it says leaves it (as an
    output, or as text to another agent). Losses are those of the outputs, then of supervised texts."""
    agent_of = {activation.id: graph.agent(activation.agent) for activation in graph.activations}
    gives = {activation: output for output, activation in graph.outputs}
    tells = {edge.sender for edge in graph.edges if CHANNELS[edge.kind].words}
    turns: list[Turn] = []
    for name in order(graph):
        agent = agent_of[name]
        think = Think(agent.steps, agent.align, agent.gradient == "stop") if agent.steps else None
        speaks = (name in gives or name in tells) and agent.answer is not None
        answer = Answer(gives.get(name), agent.answer) if speaks and agent.answer is not None else None
        turns.append(Turn(name, think=think, answer=answer))
    columns = dict(graph.labels)
    losses = [Loss(output, columns[output], ()) for output, _ in graph.outputs]
    for turn in turns:
        if turn.answer is not None and turn.answer.output is None and turn.agent in columns:
            losses.append(Loss(turn.activation, columns[turn.agent], ()))
    return Plan(
        name=graph.name,
        inputs=graph.inputs,
        outputs=tuple(output for output, _ in graph.outputs),
        models=tuple(BaseModel(model.name, model.target, model.loading) for model in graph.models),
        agents=tuple(map(_agent, graph.agents)),
        turns=tuple(turns),
        losses=tuple(losses),
        train=graph.train,
        columns=graph.columns,
    )
