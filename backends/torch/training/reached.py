"""Which parameters of a program the losses of its plan reach, by name: what training changes, once all channels are
those of the end (`open`)."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from masc.backends.torch.program import Program
from masc.compiler.analysis.reach import with_reach
from masc.compiler.channels.gate import TENSOR
from masc.compiler.forms.plan_text import reach_text
from masc.compiler.ir.plan import Across, LatentMap, Reach

_LAYER = re.compile(r"\.layers\.(\d+)\.")
_SEEN = re.compile(r"\.([kv]_proj|in_proj(_qkv|_a|_b)?)\.")
"""What an agent that feeds nothing back shows of the topmost layer that is seen: keys and values, or a state."""


def reached(program: Program) -> tuple[str, ...]:
    """The names, out of `program.trainable()`, of what some loss reaches: adapters as far up as the plan says
    (`Reach.layer`), fusers in its layers (`Across.layers`), and links. The tests hold it against autograd."""
    # Of the models as they are: when this was compiled they may not have been there to count their layers. What an
    # agent shows of itself are the caches of those that have one.
    plan = with_reach(program.plan, {agent.model: program.base(agent.name).caches for agent in program.plan.agents})
    found = [r for loss in plan.losses for r in loss.reaches]
    adapters = [r for r in found if isinstance(r, Reach)]
    maps = {r.agent for r in found if isinstance(r, LatentMap)}
    across = [r for r in found if isinstance(r, Across)]

    def reaches(name: str) -> bool:
        owner = program.owner(name)
        if name.startswith("across."):
            return any(_linked(program, name, r) for r in across if reach_text(replace(r, layers=None)) == owner)
        if name.startswith("links."):
            return owner in maps
        return any(_inside(name, r.layer, program.base(owner).caches) for r in adapters if r.agent == owner)

    return tuple(name for name in program.trainable() if reaches(name))


def _linked(program: Program, name: str, reach: Across) -> bool:
    """Whether a parameter of an edge's link is one of those that a loss reaches: of a link that is made layer by layer,
    by the layer that it is for."""
    if reach.layers is None or name.endswith(TENSOR):
        return True
    key = reach_text(replace(reach, layers=None))
    place = int(name.removeprefix(f"across.{key}.").split(".")[1])
    of: Any = program.link(reach.edge, reach.sender, reach.receiver)
    return any(first <= of.layers[place] <= last for first, last in reach.layers)


def _inside(name: str, upto: int | None, layers: int) -> bool:
    """Whether a parameter of an adapter is reached up to a layer (None: all of it; -1: the last layer)."""
    at = _LAYER.search(name)
    if upto is None or at is None:
        return True
    layer, top = int(at[1]), layers - 1 if upto == -1 else upto
    return layer < top or (layer == top and _SEEN.search(name) is not None)
