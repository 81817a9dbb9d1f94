"""Files made to be large are checked in time or refused at once: nothing here may take the memory or the minute that it
took without its limit. (Times are not asserted: without a limit, none of these would end within the tests'.)"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from masc.compiler.forms.plan_text import view_text
from masc.compiler.pipeline import Compilation, compile_source
from masc.dsl import limits
from masc.dsl.diagnostics import did_you_mean
from masc.dsl.render import render
from masc.dsl.source import Source
from teams import said

HEAD = 'mas 1\nmodel m = "no-one/not-on-disk"\n'
LAST = 'agent z on m { user "{q}" answer }\n'


def agents(count: int, rest: str = "think 1") -> str:
    return "".join(f'agent a{i} on m {{ user "{{q}}" {rest} }}\n' for i in range(count))


def names(first: int, last: int) -> str:
    return "[" + ", ".join(f"a{i}" for i in range(first, last)) + "]"


def graph(body: str, declared: str = "") -> Compilation:
    return compile_source(Source("x.mas", f"{HEAD}{declared}{LAST}graph g(q) -> answer {{\n{body}\n}}\n"))


def chain(count: int, channel: str = "kv") -> Compilation:
    return graph(f"{path(count)} : {channel}", agents(count))


def path(count: int) -> str:
    return " -> ".join([f"a{i}" for i in range(count)] + ["z"])


def test_a_chain_of_thousands() -> None:
    """What is handed on from agent to agent stands in the plan once, by reference."""
    plan = chain(3000).plan
    assert plan is not None
    assert [view_text(view) for view in plan.turns[-1].sees] == ["trace(a2999#1)"]
    assert sum(len(turn.sees) + sum(len(keep.to) for keep in turn.keeps) for turn in plan.turns) == 2 * 3000
    assert chain(3000, "kv(carry = own)").plan is not None


def test_a_repeat_of_thousands_of_rounds() -> None:
    body = "repeat 4999 { a0 -> a1 : kv a1 -> a0 : kv } a0 -> z : kv"
    plan = graph(body, agents(2)).plan
    assert plan is not None
    assert len(plan.turns) == 10_000


def test_what_is_listed_segment_by_segment_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stacked, each segment has its own place; in text, each is read on its own."""
    monkeypatch.setattr("masc.compiler.passes.extent.VIEWS", 5000)
    assert said(chain(95, "kv(merge = stack)")) == []
    assert said(chain(105, "kv(merge = stack)")) == ["E0328"]
    assert said(chain(105)) == []
    source = Source("x.mas", HEAD + agents(105) + LAST + "graph g(q) -> answer { " + path(105) + " : kv }\n")
    assert said(compile_source(source, channel="text")) == ["E0328"]


def test_stacks_and_openings_count() -> None:
    senders = names(0, 1500)
    assert said(graph(f"{senders} -> z : kv(carry = own, merge = stack)", agents(1500))) == ["E0328"]
    assert said(graph(f"{senders} -> z : kv(carry = own)", agents(1500))) == []


def test_the_product_of_groups() -> None:
    body = f"{names(0, 1000)} -> {names(1000, 2000)} : kv(carry = own)"
    compilation = graph(body, agents(2000))
    assert said(compilation) == ["E0322"]
    assert "1,000,000 edges" in compilation.diagnostics[-1].message


def test_several_repeats_count_together() -> None:
    body = "repeat 4000 { a0 -> a1 : kv a1 -> a0 : kv }\nrepeat 4000 { a2 -> a3 : kv a3 -> a2 : kv }\n"
    assert "E0322" in said(graph(body + "[a0, a2] -> z : kv", agents(4)))


def test_losses_that_reach_back_through_everything() -> None:
    count = 750
    text = f"{HEAD}{agents(count, 'think 1 answer')}{LAST}graph g(q) -> answer {{\n{path(count)} : kv(carry = own)\n"
    text += (
        f"{path(count)} : text\nz -> answer }}\ntrain {{\n" + "".join(f"a{i} <- c{i}\n" for i in range(count)) + "}\n"
    )
    assert said(compile_source(Source("x.mas", text))) == ["E0329"]


@pytest.mark.parametrize(
    "body",
    [
        "[" + ", ".join(f"x{i}" for i in range(1000)) + "] -> z : kv",
        "[" + ", ".join(["a0"] * 1000) + "] -> z : kv",
        "\n".join(f"agnt_number_{i} -> z : kv" for i in range(600)),
    ],
    ids=["undefined", "doubled", "misspelt"],
)
def test_mistakes_at_every_name_are_told_a_hundred_times(body: str) -> None:
    compilation = graph(body, agents(1) + agents(600).replace("agent a", "agent agent_number_"))
    errors = [d for d in compilation.diagnostics if d.severity == "error"]
    assert len(errors) == limits.ALIKE
    assert re.search(r"\(and [\d,]+ more of E0\d+ after it\)", errors[-1].message)
    assert len(render(compilation.diagnostics)) < 500_000


def test_a_slip_is_found_among_very_many_names() -> None:
    known = [f"agent_number_{i}" for i in range(5000)]
    assert did_you_mean("agnt_number_4711", known) == "did you mean `agent_number_4711`?"
    assert did_you_mean("x" * 100_000, ["x" * 99_999]) is None


def test_a_file_of_too_many_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("masc.dsl.tokens.TOKENS", 1000)
    assert said(compile_source(Source("x.mas", HEAD + ", " * 1000))) == ["E0216"]
    assert "E0216" not in said(compile_source(Source("x.mas", HEAD + ", " * 900)))


def test_faults_at_every_character_are_not_all_kept() -> None:
    compilation = graph("z", 'agent b on m { user "' + "\\q" * 50_000 + '" }\n')
    assert set(said(compilation)) == {"E0107"}
    assert len(compilation.diagnostics) <= limits.ALIKE + 1


def test_a_template_that_grows_without_end() -> None:
    template = 'agent t(f: text) on m { user "' + "{f}" * 3000 + '" think 1 }\n'
    assert said(graph(f'a = t("{"x" * 2000}") a -> z : kv', template)) == ["E0217"]
    many = "".join(f'b{i} = t("{"x" * 200}") b{i} -> z : kv(carry = own)\n' for i in range(100))
    assert said(graph(many, template)) == ["E0217"]


def test_many_cycles_are_told_shortly() -> None:
    body = "".join(f"a{2 * i} -> a{2 * i + 1} -> a{2 * i} : kv\n" for i in range(150))
    compilation = graph(body, agents(300))
    assert said(compilation).count("E0305") == limits.ALIKE
    one = graph(" -> ".join(f"a{i}" for i in range(500)) + " -> a0 : kv", agents(500))
    (cycle,) = (d for d in one.diagnostics if d.code == "E0305")
    assert len(cycle.message) < 200
    assert len(cycle.labels) < limits.SHOWN


def test_the_limits_are_documented() -> None:
    page = (Path(__file__).parents[2] / "docs" / "language.md").read_text(encoding="utf-8")
    for number in (limits.TOKENS, limits.PROMPT, limits.PROMPTS, limits.EDGES, limits.VIEWS, limits.REACHES):
        assert f"{number:,}" in page
    for number in (limits.FILE, limits.PROGRAM):
        assert f"{number >> 20} MiB" in page
