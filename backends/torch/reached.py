"""Which parameters of a program the losses of its plan reach, by name: what training changes, once all channels are
those of the end (`open`)."""

from __future__ import annotations

import re

from masc.backends.torch.program import Program
from masc.compiler.plan import Answer, Loss, Plan, Prefill, Reach, Think, agent_of
from masc.compiler.plan_text import reach_text
from masc.compiler.reach import with_reach

_LAYER = re.compile(r"\.layers\.(\d+)\.")
_SEEN = re.compile(r"\.[kv]_proj\.")
"""What an agent that feeds nothing back shows of the topmost layer that is seen."""


def reached(program: Program) -> tuple[str, ...]:
    """The names, out of `program.trainable()`, of what some loss reaches: adapters as far up as the plan says
    (`Reach.layer`), links, and fusers whole. The tests hold it against autograd."""
    # Of the models as they are: when this was compiled they may not have been there to count their layers.
    plan = with_reach(program.plan, {agent.model: program.base(agent.name).layers for agent in program.plan.agents})
    losses = [o for o in plan.operations if isinstance(o, Loss)]
    found = [r for loss in losses for r in loss.reaches]
    agents = {r.agent for r in found if isinstance(r, Reach)}
    across = {reach_text(r) for r in found if not isinstance(r, Reach)}
    adapters = [r for r in found if isinstance(r, Reach)]
    thoughtful = _heard(plan) & agents

    def reaches(name: str) -> bool:
        owner = program.owner(name)
        if name.startswith("across."):
            return owner in across
        if name.startswith("links."):
            return owner in thoughtful
        return any(_inside(name, r.layer, program.base(owner).layers) for r in adapters if r.agent == owner)

    return tuple(name for name in program.trainable() if reaches(name))


def _heard(plan: Plan) -> set[str]:
    """The agents whose latent positions some agent sees or is sent, or that answer after them."""
    thinking = {o.activation for o in plan.operations if isinstance(o, Think)}
    prefills = [o for o in plan.operations if isinstance(o, Prefill)]
    seen = {view.segment for o in prefills for view in o.sees if view.until is None and not view.stop}
    sent = {splice.segment for o in prefills for splice in o.splices if not (splice.cut or splice.stop)}
    answering = {o.activation for o in plan.operations if isinstance(o, Answer)}
    return {agent_of(activation) for activation in thinking & (seen | sent | answering)}


def _inside(name: str, upto: int | None, layers: int) -> bool:
    """Whether a parameter of an adapter is reached up to a layer (None: all of it; -1: the last layer)."""
    at = _LAYER.search(name)
    if upto is None or at is None:
        return True
    layer, top = int(at[1]), layers - 1 if upto == -1 else upto
    return layer < top or (layer == top and _SEEN.search(name) is not None)
