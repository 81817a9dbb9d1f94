"""What hover says of costs: of an agent, of an edge, of a graph. Inputs count as 128 tokens; data is not read here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from masc.compiler.channels import CHANNELS
from masc.compiler.cost.cost import Side, TurnCost, side
from masc.compiler.ir.graph import Edge
from masc.compiler.ir.plan import Plan, agent_of
from masc.compiler.pipeline import Compilation
from masc.dsl.diagnostics import MascError
from masc.session.costing import MOST_TURNS, PROMPT, brief, measure
from masc.terminal.costs import amount, line


def of_graph(compilation: Compilation) -> str:
    """A sentence; empty where it cannot be told."""
    found = brief(compilation)
    return "" if found is None else f"With inputs of {PROMPT} tokens, {line(found)}."


def of_agent(compilation: Compilation, name: str) -> str:
    """What one row costs an agent, over all its turns; empty where it cannot be told."""
    running, training = _sides(compilation)
    if running is None:
        return ""
    turns = [turn for turn in running.turns if agent_of(turn.activation) == name]
    if not turns:
        return ""
    positions = sum(turn.written.positions for turn in turns)
    flops, cache = sum(turn.work.total for turn in turns), sum(turn.cache for turn in turns)
    text = f"With inputs of {PROMPT} tokens, a row runs {positions:,} positions through it"
    text += f": {amount(flops, 'FLOP')}, {amount(cache, 'B')} of cache"
    if training is not None:
        trained = [turn for turn in training.turns if agent_of(turn.activation) == name]
        text += f"; in training {amount(sum(turn.work.total for turn in trained), 'FLOP')}"
        text += f", of which {amount(sum(turn.kept for turn in trained), 'B')} are kept for the backward pass"
    return f"{text}. (`masc cost`)"


def of_edges(compilation: Compilation, edges: Iterable[Edge]) -> Iterator[str]:
    """What crosses edges in one row, a sentence for each pair of agents."""
    running, _ = _sides(compilation)
    plan = compilation.plan
    if running is None or plan is None:
        return
    made = {turn.activation: turn for turn in running.turns}
    told = set()
    for edge in edges:
        pair = agent_of(edge.sender), agent_of(edge.receiver)
        if edge.sender in made and pair not in told:
            told.add(pair)
            crossing = _crossing(edge, made[edge.sender], plan)
            yield f"With inputs of {PROMPT} tokens, {crossing} cross from `{pair[0]}` to `{pair[1]}` in a row."


def _crossing(edge: Edge, sender: TurnCost, plan: Plan) -> str:
    """Of one edge: keys and values (of the columns that it carries), vectors, or tokens at most."""
    made = sender.written
    if CHANNELS[edge.kind].views:
        columns = {"latents": made.latents, "own": made.columns, "trace": made.seen + made.columns}[edge.carry]
        size = sender.cache / max(1, made.columns)
        return f"keys and values of {columns:,} positions ({amount(columns * size, 'B')})"
    keeps = {each.keeps for each in plan.turn(edge.receiver).arrives if each.kind == edge.kind}
    if "hidden" in keeps:
        count = made.latents if edge.carry == "latents" else made.prompt + made.latents
        return f"{count:,} hidden states"
    if "text" in keeps:
        return f"up to {made.answer:,} tokens"
    size = sender.cache / max(1, made.columns)
    return f"keys and values of up to {made.prompt:,} positions ({amount(made.prompt * size, 'B')})"


def _sides(compilation: Compilation) -> tuple[Side | None, Side | None]:
    if compilation.plan is None or len(compilation.plan.turns) > MOST_TURNS:
        return None, None
    try:
        found = measure(compilation, [])
    except MascError:
        return None, None
    training = side(found.team, found.training, "training", 1) if found.training else None
    return side(found.team, found.running, "running", 1), training
