"""Which turns may run side by side, and who reads what of whom."""

from __future__ import annotations

from pathlib import Path

import pytest

from masc.compiler.analysis.waves import needed, waves
from support import chain, compile_plan

AGENT = 'agent {0} on m {{ user "{0} {{q}}" think {1} {2} }}'


def plan(edges: str, agents: str = "abcd", latents: int = 2, answer: str = "d", folder: Path | None = None):  # type: ignore[no-untyped-def]
    lines = [AGENT.format(name, latents, "answer" if name in answer else "") for name in agents]
    assert folder is not None
    return compile_plan("\n".join(["mas 1", "model m = MODEL", *lines, f"graph g(q) -> answer {{ {edges} }}"]), folder)


@pytest.mark.parametrize(
    ("edges", "wanted"),
    [
        ("a -> b -> c -> d : kv", ["a", "b", "c", "d"]),
        ("[a, b, c] -> d : kv(carry = own)", ["abc", "d"]),
        ("a -> b : kv  a -> c : kv  [b, c] -> d : kv", ["a", "bc", "d"]),
        ("a -> c : kv  b -> d : kv  c -> d : kv", ["ab", "c", "d"]),
        ("a -> d : kv  b -> c : hidden  c -> d : hidden", ["ab", "c", "d"]),
    ],
)
def test_waves(edges: str, wanted: list[str], tiny: Path) -> None:
    found = waves(plan(edges, folder=tiny))
    assert ["".join(turn.agent for turn in wave) for wave in found] == wanted


def test_rounds_are_waves_one_behind_the_other(tiny: Path) -> None:
    found = waves(plan("repeat 2 { a -> b : kv  b -> a : kv }", "ab", answer="a", folder=tiny))
    assert [[turn.activation for turn in wave] for wave in found] == [["a#1"], ["b#1"], ["a#2"], ["b#2"], ["a#3"]]


def test_where_something_is_stacked_behind_another_it_waits_for_its_length(tiny: Path) -> None:
    """Also where nothing of that other is seen: of a sender without latents a stack of latents shows nothing."""
    for wave in waves(plan("[a, b, c] -> d : kv(carry = own, merge = stack)", folder=tiny)):
        names = {turn.activation for turn in wave}
        for turn in wave:
            assert not names & {name for view in turn.sees for name in (view.segment, *view.shift)}


def test_needed(tiny: Path) -> None:
    whole = needed(compile_plan(chain(("a", 1, "norm"), ("b", 1, "norm"), ("c", 0, "norm")), tiny))
    assert whole["a#1"].all == ("b#1", "c#1"), "c sees a through b's trace"
    assert whole["b#1"].all == ("c#1",)
    assert not whole["c#1"].readers
    some = needed(plan("a -> b : kv(carry = latents)  b -> c : hidden  a -> c : fuse  c -> d : kv", folder=tiny))
    assert (some["a#1"].latents, some["a#1"].prompt, some["a#1"].all) == (("b#1",), ("c#1",), ())
    assert some["b#1"].hidden == ("c#1",)
    cut = needed(compile_plan(chain(("a", 1, "norm"), ("b", 0, "norm")), tiny, cut=(("a", "b"),)))
    assert not cut["a#1"].readers


def test_an_open_channel_is_read_as_it_is_in_the_end(tiny: Path) -> None:
    found = needed(plan("a -> d : kv(carry = latents, open = 5)", "ad", folder=tiny))
    assert (found["a#1"].latents, found["a#1"].all) == (("d#1",), ())
