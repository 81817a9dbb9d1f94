"""`masc compare`: each row is what it claims, on the same items."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from comparisons import CHAIN, TEAM, WORDS, all_runs, task
from masc.backends.torch.evaluation.evaluate import Item, votes
from masc.compiler.analysis.policy import policy
from masc.compiler.analysis.reach import with_reach
from masc.compiler.channels.hidden import Splice
from masc.compiler.ir.plan import LatentMap
from masc.compiler.language.objectives import Grpo
from masc.compiler.pipeline import compile_file
from masc.dsl.diagnostics import MascError
from masc.session.costing import cost_of
from masc.studies.comparison import build_row, compare, trained_parameters
from masc.studies.comparison_runs import _content, answers_key, label_of, plan_of, runs, spoken, voters, weights_key
from support import make_other


def test_the_single_agent_has_as_many_parameters(team: Path) -> None:
    found = all_runs(team)
    wanted = trained_parameters(build_row(found["team"], task(team))[0])
    for row in ("single-tuned", "single-thinking", "pooled-tuned", "text-tuned"):
        program, rank = build_row(found[row], task(team))
        assert rank is not None
        own = [p for n, p in program.trainable().items() if ".lora_" in n and program.owner(n) == "judge"]
        one = sum(parameter.numel() for parameter in own) / rank
        assert abs(trained_parameters(program) - wanted) <= one / 2  # no whole rank comes nearer
        judge = program.plan.agent("judge")
        assert judge.lora is not None
        assert judge.lora.rank == rank
        assert judge.lora.alpha / rank == 16  # as strong as the judge's own


def test_a_team_of_equals_is_matched_exactly(team: Path) -> None:
    same = TEAM.replace("lora(rank = 5, targets = attention)", "lora(rank = 3)").replace(": hidden", ": kv")
    team.write_text(same.replace('"{guide}"', '"."'))
    found = all_runs(team)
    counts = {row: trained_parameters(build_row(found[row], task(team))[0]) for row in ("team", "single-tuned")}
    assert counts["team"] == counts["single-tuned"]
    assert build_row(found["single-tuned"], task(team))[1] == 3 + 3 + 2


def test_another_model_upstream_is_another_run(team: Path) -> None:
    """The single agent's own plan is the same, but its rank is not."""
    text = TEAM.replace('agent writer on m { user "{guide}" think 1 adapt lora(rank = 5, targets = attention) }', "")
    text = text.replace(
        "guide -> writer : hidden  [guide, writer] -> judge : kv(carry = own)", "guide -> judge : hidden"
    )
    text = text.replace("agent guide on m", 'model n = "./n"\nagent guide on n')
    team.write_text(text)
    marks = set()
    for width in (16, 24):
        make_other(team.parent / "n", hidden_size=width)
        _content.cache_clear()
        marks.add(weights_key(all_runs(team, ["single-tuned"])["single-tuned"], task(team)))
    assert len(marks) == 2


def test_rows_are_what_they_say(team: Path) -> None:
    plans = {row: plan_of(run, "answer") for row, run in all_runs(team).items()}
    own = ["pooled-tuned", "text", "text-tuned", "latent", "zero-latents", "stopped", "team"]
    assert list(plans) == ["single", "single-tuned", "single-thinking", "majority", *own]

    def reached(row: str) -> set[str]:
        found = (r for loss in plans[row].losses for r in loss.reaches)
        return {getattr(r, "agent", None) or f"{r.edge}({r.sender}, {r.receiver})" for r in found}

    assert plans["latent"] == plans["team"]
    assert reached("team") == {"guide", "writer", "judge", "hidden(guide, writer)"}
    assert reached("stopped") == {"judge"}
    assert len(plans["stopped"].turns) == 3
    for row in ("single", "single-tuned", "pooled-tuned"):
        (only,) = plans[row].turns
        assert (only.sees, only.arrives, only.at, only.think) == ((), (), (), None)
        assert reached(row) == {"judge"}
    (only,) = plans["single-thinking"].turns
    assert only.think is not None
    assert only.think.steps == sum(turn.think.steps for turn in plans["team"].turns if turn.think) == 2 + 1 + 1
    assert replace(only, think=None) == plans["single-tuned"].turns[0]
    assert plans["majority"] == plans["single-tuned"]
    assert plans["text-tuned"] == plans["text"]
    assert reached("text-tuned") == {"judge"}  # words carry no gradient
    assert not any(turn.think for turn in plans["zero-latents"].turns)
    assert [turn.sees for turn in plans["zero-latents"].turns] == [turn.sees for turn in plans["team"].turns]
    assert all(not (turn.sees or turn.of(Splice) or turn.think) for turn in plans["text"].turns)

    def words(row: str) -> str:
        (agent,) = plans[row].agents
        return "".join(part if isinstance(part, str) else f"{{{part.name}}}" for part in agent.user)

    assert words("single") == "{q}?"
    assert words("pooled-tuned") == "Guide.\n\n{clue}\n\n{q}?"


def test_text_agents_that_are_rewarded(team: Path) -> None:
    """What each of them says is sampled while they train, so that all learn."""
    team.write_text(TEAM.replace("max_tokens = 5", "max_tokens = 2"))
    found, asked = all_runs(team), task(team, samples=0, limit=1)
    assert "text-rewarded" not in found
    wanted = trained_parameters(build_row(found["team"], asked)[0])
    (run,) = runs(team, asked, ["text-rewarded"], [0], {"steps": "1", "batch": "1"}, {})
    assert run.settings.objective == Grpo("exact")
    plan = with_reach(policy(spoken(run, plan_of(run, "answer"))), {})
    assert [loss.output for loss in plan.losses] == ["answer", "guide#1", "writer#1"]
    assert [{r.agent for r in loss.reaches} for loss in plan.losses] == [{"judge"}, {"guide"}, {"writer"}]
    (result,) = compare(team, team.parent / "x", asked, rows=["text-rewarded"], sets={"steps": "1", "batch": "1"})
    (line,) = (team.parent / "x" / "runs" / result.folder / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line)["reward"] == 0
    assert abs(result.parameters - wanted) / wanted < 0.1  # those of all three
    with pytest.raises(MascError, match="cannot be the reward"):
        list(runs(team, replace(asked, scorer="code"), ["text-rewarded"], [0], {}, {}))


def test_the_other_reading_lets_every_gradient_through(team: Path) -> None:
    """Of a graph that stops some: the edges' and the latent steps'."""
    stops = TEAM.replace("think steps_of_thought", "think steps_of_thought (gradient = stop)")
    team.write_text(stops.replace("kv(carry = own)", "kv(carry = own, gradient = stop)"))
    found = all_runs(team)
    plan, whole = plan_of(found["reaching"], "answer"), compile_file(team, base=team.parent).require()
    assert not any(turn.think.stop for turn in plan.turns if turn.think)
    assert not any(view.stop for turn in plan.turns for view in turn.sees)
    assert whole != plan
    team.write_text(TEAM)
    assert plan == replace(compile_file(team, base=team.parent).require(), train=plan.train)


def test_a_majority_costs_what_the_team_costs(team: Path) -> None:
    """Its agents are the fine-tuned single one, whose weights it takes."""
    found, asked = all_runs(team), task(team)
    count = voters(found["majority"].compilation, asked)
    single, whole = (
        cost_of(plan_of(found[row], "answer"), found[row].compilation, asked.test_rows) for row in ("single", "team")
    )
    assert count
    assert single
    assert whole
    assert abs(count * single.flops - whole.flops) <= single.flops / 2
    assert weights_key(found["majority"], asked) == weights_key(found["single-tuned"], asked)
    assert answers_key(found["majority"], asked) != answers_key(found["single-tuned"], asked)
    assert votes([Item(0, said, "a", said == "a", float(said == "a")) for said in "aba"], "exact", 3) == [1.0]


def test_a_pooled_agent_only_where_it_would_read_more(team: Path) -> None:
    team.write_text(TEAM.replace("{q}?", "{q}? {clue}"))
    assert "pooled-tuned" not in all_runs(team)
    assert "pooled-tuned" in all_runs(team, ["pooled-tuned"])


FROZEN = TEAM.replace("adapt lora(rank = 2) answer", "adapt none answer")
MUTE = TEAM.replace("adapt lora(rank = 3, alpha = 6)", "adapt none").replace(
    "adapt lora(rank = 5, targets = attention)", "adapt none"
)


def test_rows_that_would_say_nothing_of_their_own_are_left_out(team: Path, capsys: pytest.CaptureFixture[str]) -> None:
    team.write_text(FROZEN)
    single = ["single", "single-tuned", "single-thinking", "majority"]
    assert list(all_runs(team)) == [*single, "pooled-tuned", "text", "latent", "zero-latents", "team"]
    assert "text-tuned: left out, who answers is frozen" in (told := capsys.readouterr().err)
    assert "stopped: left out, who answers is frozen" in told
    assert "stopped" in all_runs(team, ["stopped"])  # who asks for it gets it
    team.write_text(MUTE)
    assert "stopped" not in all_runs(team)
    assert "stopped: left out, every sender is frozen" in capsys.readouterr().err
    team.write_text(WORDS)
    assert list(all_runs(team)) == ["single", "single-tuned", "majority", "pooled-tuned", "text", "team"]
    told = capsys.readouterr().err
    assert "latent: left out, nothing but text crosses" in told
    assert "zero-latents: left out, nobody thinks in latent steps" in told
    assert "text-tuned: left out, nothing but text crosses as it is" in told
    assert "reaching: left out, a gradient crosses every edge as it is" in told
    assert "stopped: left out, no gradient crosses an edge as it is" in told


DEAF = """
mas 1
model m = "./tiny"
agent guide on m { user "{q}" think 1 (align = linear, gradient = stop) adapt lora(rank = 3) }
agent judge on m { user "Again: {q}" adapt lora(rank = 2) answer (max_tokens = 3) }
graph team(q) -> answer { guide -> judge : fuse(width = 4) }
train { data "train.jsonl" eval_data "test.jsonl" answer <- answer steps 1 }
"""


def test_a_link_that_nobody_hears_is_another_team(team: Path) -> None:
    """The loss reaches the map behind the latent steps only where they are seen: another rank."""
    found = {}
    for more in ("", "  guide -> judge : kv"):
        team.write_text(DEAF.replace("(width = 4)", f"(width = 4){more}"))
        run = all_runs(team, ["single-tuned"])["single-tuned"]
        (loss,) = run.compilation.require().losses
        found[weights_key(run, task(team))] = loss.reaches
    assert len(found) == 2
    assert [any(isinstance(r, LatentMap) for r in reaches) for reaches in found.values()] == [False, True]


def test_only_a_chain_that_hands_on_its_trace_is_called_like_the_papers(team: Path) -> None:
    def labels() -> set[str]:
        return {label_of(row, run.compilation) for row, run in all_runs(team, ["latent", "team"]).items()}

    team.write_text(CHAIN)
    assert labels() == {"as written, untrained (LatentMAS)", "as written, end to end (DiffMAS)"}
    for old, new in (
        (": kv", ": kv(carry = own)"),
        ("think 1", ""),
        (": kv", ": hidden"),
        (": kv", ": kv(layers = 0..0)"),
    ):
        team.write_text(CHAIN.replace(old, new))
        assert labels() == {"as written, untrained", "as written, end to end"}
