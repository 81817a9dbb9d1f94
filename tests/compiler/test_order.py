"""Which activation may run when: one after the other, by turns, and what comes before one."""

from __future__ import annotations

import networkx as nx
import pytest

from masc.compiler.passes.order import order, upstream, useful, waves
from teams import team_graph

FAN = team_graph("last! b a c", "[a, b] -> last : kv", "c -> a : kv")
ROUNDS = team_graph("a b!", "repeat 2 {", "a -> b : kv", "b -> a : kv", "}")


def test_of_those_that_could_be_next_the_one_mentioned_first_is() -> None:
    # Mentioned in the graph block: a, b, last, c.
    assert order(FAN) == ("b#1", "c#1", "a#1", "last#1")
    assert order(ROUNDS) == ("a#1", "b#1", "a#2", "b#2")


def test_those_of_one_turn_do_not_depend_on_each_other() -> None:
    assert waves(FAN) == (("b#1", "c#1"), ("a#1",), ("last#1",))
    assert waves(ROUNDS) == (("a#1",), ("b#1",), ("a#2",), ("b#2",))
    for graph in (FAN, ROUNDS):
        turns = waves(graph)
        assert sorted(name for turn in turns for name in turn) == sorted(order(graph))
        for turn in turns:
            assert not any(edge.sender in turn and edge.receiver in turn for edge in graph.edges)


def test_in_a_turn_they_stand_as_they_are_mentioned() -> None:
    assert waves(team_graph("z a m!", "z -> m : kv", "a -> m : kv"))[0] == ("z#1", "a#1")


def test_what_comes_before() -> None:
    assert upstream(FAN, "a#1") == {"a#1", "c#1"}
    assert upstream(FAN, "b#1") == {"b#1"}
    assert upstream(ROUNDS, "b#2") == {"a#1", "b#1", "a#2", "b#2"}
    assert useful(FAN.edges, ["a#1", "b#1"]) == {"a#1", "b#1", "c#1"}
    assert useful((), ["a#1"]) == {"a#1"}


def test_two_edges_between_the_same_two_count_as_one_sender() -> None:
    graph = team_graph("a! b!", "a -> b : kv", "a -> b : text")
    assert len(graph.edges) == 2
    assert order(graph) == ("a#1", "b#1")


def test_the_network_of_a_graph_is_not_changed() -> None:
    with pytest.raises(nx.NetworkXError, match=r"[Ff]rozen"):
        FAN.network.add_node("new")
