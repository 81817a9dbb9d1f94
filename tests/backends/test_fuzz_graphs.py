"""Random graphs (`benchmarks/fuzz_graphs.py`): few and small ones, of hundreds that are drawn, in which nearly all that
the language has stands beside everything else, and each check is made of each; any number of graphs by
`python benchmarks/fuzz.py graphs`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from itertools import combinations, product
from pathlib import Path
from random import Random
from typing import Any

import pytest

SEED, DRAWN, PARTS = 1, 300, 5
LEAST = 4
"""So many traits that no graph before it had must one have: the others would take half of the time for one trait in
thirty."""
Trait = tuple[str, ...]


@pytest.fixture(scope="module")
def fuzz() -> Iterator[Any]:
    folder = str(Path(__file__).parents[2] / "benchmarks")
    sys.path.insert(0, folder)
    try:
        import fuzz_graphs

        yield fuzz_graphs
    finally:
        sys.path.remove(folder)


def of_edge(edge: Any) -> set[str]:
    """What an edge says, its numbers left out."""
    told = {f"{edge.kind} {name} {re.sub('[0-9]+', '', value)}" for name, value in edge.options if name != "width"}
    return {edge.kind, *told}


def of_agent(agent: Any) -> set[str]:
    adapter = "as" if agent.adapt.startswith("as ") else re.sub(r"rank = \d(, )?", "", agent.adapt)
    thinks = {f"align {agent.align}", f"gradient {agent.gradient}"} if agent.steps else {"no latents"}
    held = {"template": agent.template, "answer": agent.answer, "system": agent.system}
    return {adapter} | thinks | {name for name, there in held.items() if there}


def of_team(team: Any) -> set[str]:
    rounds = [item for item in team.body if not hasattr(item, "sender")]
    pairs = [(edge.sender, edge.receiver) for edge in team.edges]
    held = {
        "rounds": bool(rounds),
        "nested rounds": any(not hasattr(inner, "sender") for item in rounds for inner in item.body),
        "two outputs": len(team.outputs) > 1,
        "a supervised text": bool(team.supervised),
        "a param": team.param is not None,
        "two models": len({agent.model for agent in team.agents}) > 1,
        "two edges of a pair": len(set(pairs)) < len(pairs),
        "several senders": len({receiver for _, receiver in pairs}) < len(set(pairs)),
        "more than two agents": len(team.agents) > 2,
    }
    return {name for name, there in held.items() if there}


def traits(team: Any, checks: list[str]) -> set[Trait]:
    """What stands beside what: in an agent, along an edge, in the team; and which check is made of what."""
    agents = {agent.name: of_agent(agent) for agent in team.agents}
    edges = [of_edge(edge) for edge in team.edges]
    whole, carried = of_team(team), set().union(*edges)
    found = {pair for each in (*agents.values(), *edges) for pair in combinations(sorted(each), 2)}
    for edge in team.edges:
        for side, name in (("sender", edge.sender), ("receiver", edge.receiver)):
            found |= {(edge.kind, side, trait) for trait in agents[name]}
    found |= set(product(whole, carried)) | set(combinations(sorted(edge.kind for edge in team.edges), 2))
    return found | set(product(checks, whole | carried | set().union(*agents.values())))


def chosen(fuzz: Any) -> list[int]:
    """Numbers of graphs that have nearly all traits which any that was drawn has: time and again the one that has most
    new ones for its size."""
    found: dict[int, set[Trait]] = {}
    size: dict[int, int] = {}
    for number in range(DRAWN):
        team = fuzz.draw(Random(f"{SEED}:{number}"))
        checks = [check.__name__ for check in fuzz.checks(number)]
        if "kv" not in team.stops:
            checks = [name for name in checks if name != "openings"]
        if team.shuffled(Random(0)) is None:
            checks = [name for name in checks if name != "orders"]
        found[number] = traits(team, checks)
        size[number] = (team.turns + 1) * (3 + len(checks) + 5 * ("files" in checks))
    missing, numbers = set().union(*found.values()), []
    while True:
        worth = [number for number in found if len(found[number] & missing) >= LEAST]
        if not worth:
            break
        best = max(worth, key=lambda number: len(found[number] & missing) / size[number])
        missing -= found[best]
        numbers.append(best)
    return numbers


@pytest.mark.parametrize("part", range(PARTS))
def test_random_graphs_mean_what_they_say(part: int, fuzz: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = fuzz.models(tmp_path_factory.mktemp("fuzz"))
    found = [fuzz.hold(folder, SEED, number) for number in chosen(fuzz)[part::PARTS]]
    assert found.count("valid") > len(found) // 2
