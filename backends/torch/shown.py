"""What a notebook shows of a program: its graph, and what is trained in it."""

from __future__ import annotations

from masc.backends.diagram import Drawing
from masc.backends.notebook import paragraphs, table
from masc.backends.torch.engine.modules import Modules
from masc.compiler.artifact import with_gates


def drawing_of(program: Modules) -> Drawing | None:
    """The graph, with how far its gates are open. None where a program was made of a plan alone."""
    compilation = program.history.compilation
    if compilation is None or compilation.graph is None:
        return None
    return Drawing(with_gates(compilation.graph, program.openness()))


def html_of(program: Modules) -> str | None:
    """The drawing, and below it whose parameters are trained, how many."""
    if (drawing := drawing_of(program)) is None:
        return None
    owned: dict[str, int] = {}
    for name, parameter in program.trainable().items():
        owned[program.owner(name)] = owned.get(program.owner(name), 0) + parameter.numel()
    agents = program.plan.agents
    rows = [(agent.name, agent.model, f"{owned.pop(agent.name, 0):,}") for agent in agents]
    rows += [(edge, "", f"{count:,}") for edge, count in owned.items()]
    held = table(rows, ("", "model", "trained parameters"))
    return drawing._repr_svg_() + held + paragraphs([f"{program.base(agents[0].name).held} on {program.device}"])
