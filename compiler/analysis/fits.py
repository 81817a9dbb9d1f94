"""Whether weights that were trained for one plan can be run with another: the same graph with other latent steps, or
with another word in a prompt."""

from __future__ import annotations

from masc.compiler.channels import PLAIN
from masc.compiler.ir.adapter import adapter_text
from masc.compiler.ir.plan import Plan, agent_of
from masc.compiler.language.alignments import ALIGNMENTS


def misfits(trained: Plan, wanted: Plan) -> list[str]:
    """Why the weights of `trained` cannot be those of `wanted`: a line for each adapter and each edge with parameters
    of its own that `trained` has not, or has in another shape. Empty: they fit. Weights that `wanted` has no use for do
    no harm."""
    before, now = _parts(trained), _parts(wanted)
    found = []
    for name, shape in now.items():
        if name not in before:
            found.append(f"{name} was not trained")
        elif before[name] != shape:
            found.append(f"{name} is {shape}, and was trained as {before[name]}")
    return found


def _parts(plan: Plan) -> dict[str, str]:
    """What an artifact of a plan holds weights of, and all that their shape and strength depend on."""
    targets = {model.name: model.target.rpartition("/")[2] for model in plan.models}
    models = {agent.name: targets[agent.model] for agent in plan.agents}
    found: dict[str, str] = {}
    for agent in plan.agents:
        if agent.own is not None:
            found[f"the adapter of `{agent.name}`"] = (
                f"{adapter_text(agent.own, None, 'weights')} on {models[agent.name]}"
            )
    for turn in plan.turns:
        name = turn.agent
        if turn.think is not None and ALIGNMENTS[turn.think.align].trained and plan.agent(name).lora is not None:
            found[f"`align = {turn.think.align}` of `{name}`"] = f"a matrix of {models[name]}"
        for sender, receiver in (gate for entry in turn.sees for gate in entry.gates):
            found[f"the gate of `{PLAIN.kind}({sender}, {receiver})`"] = "a number"
        for arrival in turn.arrives:
            if arrival.link:
                sender = agent_of(arrival.segment)
                between = f"from {models[sender]} to {models[name]}"
                found[f"the {arrival.link} `{arrival.kind}({sender}, {name})`"] = f"{arrival.shape} {between}"
    return found
