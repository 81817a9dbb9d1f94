"""Short ways to write down a team of agents, so that a test shows its graph and little else."""

from __future__ import annotations

import re

from masc.compiler.analysis.sights import sights
from masc.compiler.forms.plan_text import print_turns, turn_text, view_text
from masc.compiler.ir.graph import Graph
from masc.compiler.ir.plan import Plan
from masc.compiler.pipeline import Compilation, Cut, compile_source
from masc.dsl.source import Source

MODEL = "no-one/not-on-disk"


def source(agents: str, *edges: str, outputs: str = "answer", model: str = MODEL, train: str = "") -> Source:
    """`agents`: words such as `a`, `b/3` (three latent steps), `c!` (answers), `d/2!`."""
    lines = ["mas 1", f'model m = "{model}"']
    for word in agents.split():
        name, steps = re.fullmatch(r"(\w+?)(?:/(\d+))?!?", word).groups()  # type: ignore[union-attr]
        lines += [f"agent {name} on m {{", '  user "{question}"']
        lines += [f"  think {steps}"] * (steps is not None) + ["  answer"] * word.endswith("!") + ["}"]
    lines += [f"graph g(question) -> {outputs} {{", *(f"  {edge}" for edge in edges), "}", train]
    return Source("team.mas", "\n".join(lines) + "\n")


def team(agents: str, *edges: str, outputs: str = "answer", model: str = MODEL, cut: Cut = ()) -> Plan:
    return compile_source(source(agents, *edges, outputs=outputs, model=model), cut=cut).require()


def team_graph(agents: str, *edges: str) -> Graph:
    """The graph of a team without errors."""
    compilation = compile_source(source(agents, *edges))
    compilation.require()
    assert compilation.graph is not None
    return compilation.graph


def prefills(plan: Plan) -> dict[str, str]:
    """`sees [...] at ...` of each agent, traces worked out, rounds left out (`a` for `a#1`)."""
    rows = {}
    for turn, views in zip(plan.turns, sights(plan).values(), strict=True):
        head, *lines = (line.strip() for line in turn_text(turn).splitlines())
        _, _, at = head.removesuffix(" no gradient").partition(" at ")
        arrives = [line for line in lines if line.split()[0] in ("reads", "splices", "fuses")]
        shown = f"sees [{', '.join(map(view_text, views))}]"
        rows[turn.activation.removesuffix("#1")] = " ".join([shown, *arrives, "at", at]).replace("#1", "")
    return rows


def reached(plan: Plan) -> list[str]:
    """What each loss reaches."""
    lines = (line for line in print_turns(plan).splitlines() if line.startswith("loss"))
    return [line.partition("reaches")[2].strip() for line in lines]


def said(compilation: Compilation, infos: bool = False) -> list[str]:
    """The codes, in order; those that only inform left out."""
    return [d.code for d in compilation.diagnostics if infos or d.severity != "info"]
