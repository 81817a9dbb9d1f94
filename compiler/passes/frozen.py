"""Adapters that no loss trains, or only at first: worth a warning, because nothing else would show it."""

from __future__ import annotations

from collections.abc import Mapping

from masc.compiler.analysis.policy import policy
from masc.compiler.analysis.reach import while_open, with_reach
from masc.compiler.channels import CHANNELS
from masc.compiler.ir.graph import Edge, Graph
from masc.compiler.ir.plan import Plan, Reach, agent_of
from masc.compiler.language.objectives import Grpo
from masc.compiler.passes.order import upstream
from masc.dsl.diagnostics import Diagnostic, Label


def frozen_out(graph: Graph, plan: Plan, layers: Mapping[str, int]) -> list[Diagnostic]:
    """A warning for each agent with an adapter that is in no loss's `reaches`: W0303, or W0314 where a loss reaches it
    while a channel is open. layers: of each model, as far as they are known."""
    rewarded = isinstance(plan.train.objective, Grpo)
    reached = _reached(with_reach(policy(plan), layers) if rewarded else plan)
    unreached = [a for a in graph.agents if a.lora is not None and not a.shares and a.name not in reached]
    if not unreached:
        return []
    last = _last_steps(plan, layers)
    sent: dict[str, list[Edge]] = {}
    for edge in graph.edges:
        sent.setdefault(agent_of(edge.sender), []).append(edge)
    walls = [e for e in graph.edges if e.gradient == "stop" or CHANNELS[e.kind].words]
    senders = dict.fromkeys(edge.sender for edge in walls)
    behind = {sender: {agent_of(name) for name in upstream(graph, sender)} for sender in senders}
    in_the_way: dict[str, list[Edge]] = {}
    for edge in walls:
        for name in behind[edge.sender]:
            in_the_way.setdefault(name, []).append(edge)
    found = []
    for agent in unreached:
        stops = [e for e in in_the_way.get(agent.name, ()) if e.gradient == "stop"]
        texts = [e for e in in_the_way.get(agent.name, ()) if CHANNELS[e.kind].words]
        idle = all(e.carry == "latents" and not agent.steps for e in sent.get(agent.name, ()))
        if idle and not stops and not texts:
            continue  # W0301 has said so
        if (steps := last.get(agent.name)) is not None:
            message = (
                f"no gradient reaches the adapter of `{agent.name}` from step {steps} on, once the channel is closed"
            )
            hint = f"only the first {steps} steps train it: let more cross for good, or write `adapt none`"
            found.append(Diagnostic("W0314", message, agent.span, hint=hint))
            continue
        labels = tuple(dict.fromkeys(Label(edge.span, "the gradient stops here") for edge in stops))
        labels += tuple(dict.fromkeys(Label(edge.span, "no gradient crosses text") for edge in texts))
        hint = f"write `adapt none` in `{agent.name}`"
        if texts:
            silent = [name for name in map(agent_of, (e.sender for e in texts)) if name not in dict(graph.labels)]
            teller = agent.name if agent.name in silent else next(iter(silent), None)
            if teller and rewarded:
                hint += f", or let `{teller}` sample what it says: `answer (temperature = 1)`"
            elif teller:
                hint += f", or supervise what `{teller}` says: `train {{ {teller} <- column }}`"
        elif stops:
            hint += ", or let the gradient through"
        message = f"no gradient reaches the adapter of `{agent.name}`: training would leave it as it is"
        found.append(Diagnostic("W0303", message, agent.span, labels, hint))
    return found


def _reached(plan: Plan) -> set[str]:
    return {r.agent for loss in plan.losses for r in loss.reaches if isinstance(r, Reach)}


def _last_steps(plan: Plan, layers: Mapping[str, int]) -> dict[str, int]:
    """By agent that a loss reaches while a channel is open: for how many steps of training."""
    found: dict[str, int] = {}
    for until, opened in while_open(plan, layers).items():
        found |= dict.fromkeys(_reached(opened), until)
    return found
