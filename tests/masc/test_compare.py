"""`masc compare`: each row is what it claims, on the same items; what was done is not done again."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from courier import Command
from masc.compiler.channels.hidden import Splice
from masc.compiler.ir.plan import LatentMap
from masc.compiler.pipeline import compile_file
from masc.dsl.diagnostics import MascError
from masc.studies.comparison import Result, build_row, compare, trained_parameters
from masc.studies.comparison_report import lines_of
from masc.studies.comparison_runs import Run, Task, _content, label_of, mark, plan_of, runs, task_of
from support import make_other

TEAM = """
mas 1
model m = "./tiny"
param steps_of_thought: int = 2
agent guide on m { system "Guide." user "{clue}" think steps_of_thought adapt lora(rank = 3, alpha = 6) }
agent writer on m { user "{guide}" think 1 adapt lora(rank = 5, targets = attention) }
agent judge on m { system "Judge." user "{q}?" think 1 adapt lora(rank = 2) answer (max_tokens = 3) }
graph team(q, clue) -> answer { guide -> writer : hidden  [guide, writer] -> judge : kv(carry = own) }
train { data "train.jsonl" eval_data "test.jsonl" answer <- answer batch 2 steps 3 save_every 1 seed 7 }
"""
FILES = ("train.jsonl", "test.jsonl")
ROWS = [{"q": "who" * n, "clue": "c" * n, "answer": "ab"[:k]} for n, k in ((1, 1), (2, 2), (3, 1), (4, 2), (5, 1))]


@pytest.fixture
def team(folder: Path) -> Path:
    (folder / "team.mas").write_text(TEAM)
    for name, part in (("train", ROWS[:4]), ("test", ROWS[2:])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    return folder / "team.mas"


def task(team: Path, **options: Any) -> Task:
    options = {"samples": 2, "sampled": 2, "dtype": "float32", "device": "cpu"} | options
    return task_of(compile_file(team), None, None, "exact", **options)


def all_runs(team: Path, rows: list[str] | None = None) -> dict[str, Run]:
    return {run.row: run for run in runs(team, task(team), rows, [0], {}, {})}


def test_the_single_agent_has_as_many_parameters(team: Path) -> None:
    found = all_runs(team)
    wanted = trained_parameters(build_row(found["team"], task(team))[0])
    for row in ("single-tuned", "pooled-tuned"):
        program, rank = build_row(found[row], task(team))
        assert rank is not None
        one = trained_parameters(program) / rank
        assert abs(trained_parameters(program) - wanted) <= one / 2  # no whole rank comes nearer
        (agent,) = program.plan.agents
        assert agent.lora is not None
        assert agent.lora.rank == rank
        assert agent.lora.alpha / rank == 16  # as strong as the judge's own


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
        marks.add(mark(all_runs(team, ["single-tuned"])["single-tuned"], task(team)))
    assert len(marks) == 2


def test_rows_are_what_they_say(team: Path) -> None:
    plans = {row: plan_of(run, "answer") for row, run in all_runs(team).items()}
    assert list(plans) == ["single", "single-tuned", "pooled-tuned", "text", "latent", "stopped", "team"]

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
    assert all(not (turn.sees or turn.of(Splice) or turn.think) for turn in plans["text"].turns)

    def words(row: str) -> str:
        (agent,) = plans[row].agents
        return "".join(part if isinstance(part, str) else f"{{{part.name}}}" for part in agent.user)

    assert words("single") == "{q}?"
    assert words("pooled-tuned") == "Guide.\n\n{clue}\n\n{q}?"


def test_a_pooled_agent_only_where_it_would_read_more(team: Path) -> None:
    team.write_text(TEAM.replace("{q}?", "{q}? {clue}"))
    assert "pooled-tuned" not in all_runs(team)
    assert "pooled-tuned" in all_runs(team, ["pooled-tuned"])


FROZEN = TEAM.replace("adapt lora(rank = 2) answer", "adapt none answer")
MUTE = TEAM.replace("adapt lora(rank = 3, alpha = 6)", "adapt none").replace(
    "adapt lora(rank = 5, targets = attention)", "adapt none"
)
WORDS = """
mas 1
model m = "./tiny"
agent guide on m { user "{clue}" answer (max_tokens = 2) }
agent judge on m { user "{guide} {q}?" answer (max_tokens = 3) }
graph team(q, clue) -> answer { guide -> judge : text  judge -> answer }
train { data "train.jsonl" eval_data "test.jsonl" answer <- answer steps 1 }
"""


def test_rows_that_would_say_nothing_of_their_own_are_left_out(team: Path, capsys: pytest.CaptureFixture[str]) -> None:
    team.write_text(FROZEN)
    assert list(all_runs(team)) == ["single", "single-tuned", "pooled-tuned", "text", "latent", "team"]
    assert "stopped: left out, who answers is frozen" in capsys.readouterr().err
    assert "stopped" in all_runs(team, ["stopped"])  # who asks for it gets it
    team.write_text(MUTE)
    assert "stopped" not in all_runs(team)
    assert "stopped: left out, every sender is frozen" in capsys.readouterr().err
    team.write_text(WORDS)
    assert list(all_runs(team)) == ["single", "single-tuned", "pooled-tuned", "text", "team"]
    told = capsys.readouterr().err
    assert "latent: left out, nothing but text crosses" in told
    assert "stopped: left out, no gradient crosses an edge as it is" in told


def test_only_what_trains_needs_data_to_train_on(team: Path, masc: Command) -> None:
    team.write_text(TEAM.replace('data "train.jsonl" ', ""))
    assert masc("compare", team, "--rows", "single,latent", "--samples", 0).code == 0
    wrong = masc("compare", team, "--rows", "single,team", "--samples", 0)
    assert wrong.code == 1
    assert "data" in wrong.err


def test_what_a_single_agent_lacks_is_said(team: Path, masc: Command) -> None:
    done = masc("compare", team, "--set", "steps=1", "--samples", 0)
    assert done.code == 0, done.err
    assert "only other agents read clue" in done.err
    assert len((team.parent / "team.compare" / "table.csv").read_text().splitlines()) == 1 + 7


def test_code_is_run_behind_walls_or_not_at_all(team: Path, masc: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("masc.backends.scoring.sandbox._tried", lambda name: f"`{name}` is not installed")
    rows = [{**row, "test": "assert True"} for row in ROWS[:2]]
    (team.parent / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for command in (("compare", team, "--rows", "single", "--samples", 0), ("eval", team, "--data", "test.jsonl")):
        refused = masc(*command, "--scorer", "code", "--allow-code-execution")
        assert refused.code == 1
        assert "E0660" in refused.err
        assert "--sandbox none" in refused.err
        wrong = masc(*command, "--scorer", "code", "--allow-code-execution", "--sandbox", "bwarp")
        assert "unknown sandbox `bwarp`" in wrong.err


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
        found[mark(run, task(team))] = loss.reaches
    assert len(found) == 2
    assert [any(isinstance(r, LatentMap) for r in reaches) for reaches in found.values()] == [False, True]


def test_a_comma_that_is_no_sweep(team: Path, masc: Command) -> None:
    team.write_text(TEAM.replace("param steps", 'param greeting: text = "hi"\nparam steps', 1))
    for value, count in (("one\\,two", 1), ("one,two", 2), ("one", 1)):
        done = masc("compare", team, "--rows", "single", "--samples", 0, "--set", f"greeting={value}")
        assert done.code == 0, done.err
        assert len((team.parent / "team.compare" / "table.csv").read_text().splitlines()) == 1 + count


def outcomes(results: list[Result]) -> list[dict[str, Any]]:
    """All of the results but times."""
    found = []
    for result in results:
        known = dict(vars(result))
        known.pop("train_seconds")
        known["report"] = {k: v for k, v in result.report.items() if k != "seconds"}
        found.append(known)
    return found


def test_killed_and_run_again_it_goes_on(team: Path) -> None:
    whole = compare(team, team.parent / "whole", task(team))
    assert [result.row for result in whole][-1] == "team"
    trained = [r for r in whole if r.steps]
    assert {r.row for r in trained} == {"single-tuned", "pooled-tuned", "stopped", "team"}
    assert len({r.tokens for r in trained}) == 1  # the same items, and so the same answers
    assert all(r.steps == 3 for r in trained)
    assert all(len(r.right) == 3 for r in whole)
    assert all(r.report["latent_steps"] == 0 for r in whole if r.row.startswith(("single", "pooled", "text")))
    assert {r.row: r.parameters > 0 for r in whole} == {r.row: r in trained for r in whole}
    stopped, team_row = (next(r for r in whole if r.row == row) for row in ("stopped", "team"))
    assert stopped.parameters < team_row.parameters

    class StopError(Exception):
        pass

    seen: list[int] = []

    def stop(metrics: Mapping[str, Any]) -> None:
        seen.append(metrics["step"])
        if len(seen) == 8:  # in the second step of the third row that is trained
            raise StopError

    out = team.parent / "again"
    with pytest.raises(StopError):
        compare(team, out, task(team), listen=stop)
    done = {file: file.stat().st_mtime_ns for file in out.glob("runs/*/result-*.json")}
    assert len(done) == 5
    seen.clear()
    again = compare(team, out, task(team), listen=lambda metrics: seen.append(metrics["step"]))
    assert outcomes(again) == outcomes(whole)
    assert all(file.stat().st_mtime_ns == when for file, when in done.items())
    assert seen[:2] in ([2, 3], [3, 1])  # not from the start
    # Once more: nothing is run. With other rows to score: everything is, but nothing is mixed up.
    seen.clear()
    assert outcomes(compare(team, out, task(team), listen=lambda m: seen.append(1))) == outcomes(whole)
    assert not seen
    other = compare(team, out, task(team, limit=2), rows=["single"])
    assert len(other[0].right) == 2
    # Weights are those of before.
    again = compare(team, out, task(team, limit=2), rows=["team"], listen=lambda m: seen.append(1))
    assert not seen
    assert again[0].right == team_row.right[:2]
    assert (again[0].steps, again[0].tokens, again[0].folder) == (3, team_row.tokens, team_row.folder)


def test_other_decoding_asks_again_and_trains_nothing(team: Path) -> None:
    seen: list[int] = []
    first = compare(team, team.parent / "x", task(team), rows=["team"], listen=lambda m: seen.append(1))
    assert len(seen) == 3
    seen.clear()
    team.write_text(TEAM.replace("max_tokens = 3", "max_tokens = 1"))
    again = compare(team, team.parent / "x", task(team), rows=["team"], listen=lambda m: seen.append(1))
    assert not seen
    assert again[0].report["tokens_decoded"] < first[0].report["tokens_decoded"]
    # What an agent says to another, and no column supervises, is part of what the other is trained on.
    marks = set()
    for text in (WORDS, WORDS.replace("max_tokens = 2", "max_tokens = 1"), WORDS.replace("= 3", "= 1")):
        team.write_text(text)
        marks.add(mark(all_runs(team, ["team"])["team"], task(team)))
    assert len(marks) == 2


CHAIN = """
mas 1
model m = "./tiny"
agent guide on m { user "{clue}" think 1 adapt lora(rank = 2) }
agent judge on m { user "{q}?" adapt lora(rank = 2) answer (max_tokens = 3, temperature = 0.5, stop = "z") }
graph team(q, clue) -> answer { guide -> judge : kv }
train { data "train.jsonl" eval_data "test.jsonl" answer <- answer batch 2 steps 1 }
"""


def test_decoding_on_the_command_line_and_from_python(team: Path, masc: Command) -> None:
    """It asks anew, trains nothing anew, is written down, and is the same from Python."""
    import masc as api

    def lines(*options: object) -> list[dict[str, Any]]:
        done = masc("compare", team, "--rows", "single,text,team", "--set", "steps=1", "--samples", 2, *options)
        assert done.code == 0, done.err
        return list(json.loads((team.parent / "team.compare/table.json").read_text())["lines"])

    plain = lines()
    said = lines("--max-tokens", 1, "--temperature", 0.7, "--top-p", 0.9)
    for before, now in zip(plain, said, strict=True):
        assert before["decoding"]["answer"] == "at most 3 tokens, greedy"
        assert now["decoding"]["answer"] == "at most 1 tokens, temperature 0.7, top-p 0.9, seed 0"
        assert now["tokens_decoded"] <= 3 or now["row"] == "text"
    assert [line["decoding"].get("guide") for line in said] == [line["decoding"].get("guide") for line in plain]
    assert lines() == plain, "found again"
    (run,) = (team.parent / "team.compare/runs").glob("team-*")
    assert len(list(run.glob("result-*.json"))) == 2
    train, test = ([json.loads(row) for row in (team.parent / name).read_text().splitlines()] for name in FILES)
    options: dict[str, Any] = {"rows": ["single"], "samples": 0, "max_tokens": 1, "temperature": 0.7, "top_p": 0.9}
    (line,) = api.compare(team, train, test, team.parent / "py", **options)
    assert dict(line.decoding)["answer"] == said[0]["decoding"]["answer"]
    assert line.accuracy == said[0]["accuracy"]
    with pytest.raises(ValueError, match="top_p"):
        api.compare(team, train, test, team.parent / "py", top_p=0)
    assert masc("compare", team, "--top-p", 0).code == 2


def test_samples_for_the_agreement_are_no_longer_than_they_may_be(team: Path) -> None:
    lengths: list[int] = []

    def same(said: str, gold: str, row: object) -> bool:
        return True

    from masc.backends.torch.evaluation import stability

    program = build_row(all_runs(team, ["single"])["single"], task(team))[0]
    run = stability.say_all

    def seen(*args: Any, **options: Any) -> Any:
        for i, said in run(*args, **options):
            lengths.append(len(said["answer"].ids))
            yield i, said

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stability, "say_all", seen)
        stability.agreement(program, ROWS, same, samples=2, max_tokens=1)
    assert max(lengths) == 1


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


def test_a_row_that_no_seed_decides_counts_once(team: Path, masc: Command) -> None:
    team.write_text(CHAIN)
    done = masc("compare", team, "--rows", "single,text,team", "--samples", 0, "--seeds", "0,1")
    assert done.code == 0, done.err
    assert "as written, end to end (DiffMAS) (2 seeds)" in done.out
    assert done.out.count("seeds)") == 1
    # What the text agents are given is said: as the one that answers, with as many tokens as an `answer` line gives.
    assert "Decoding, text agents: guide: at most 128 tokens, temperature 0.5, top-p 1, seed 0; answer:" in done.out
    team.write_text(
        CHAIN.replace("think 1", "think 1 answer (max_tokens = 7)").replace(": kv", ": kv  judge -> answer")
    )
    done = masc("compare", team, "--rows", "single,text", "--samples", 0)
    assert done.code == 0, done.err
    assert "Decoding, text agents: guide: at most 7 tokens, greedy; answer: at most 3 tokens, temp" in done.out
    assert "Decoding, all others: answer: at most 3 tokens, temperature 0.5, top-p 1, seed 0, stop at 'z'" in done.out


def test_the_seed_orders_the_data_of_all_rows_alike(team: Path) -> None:
    one, two = (compare(team, team.parent / "x", task(team), rows=["single-tuned", "team"], seeds=[s]) for s in (0, 1))
    assert one[0].tokens == one[1].tokens
    assert two[0].tokens == two[1].tokens
    assert {r.folder for r in one} & {r.folder for r in two} == set()


def test_a_sweep_runs_again_only_what_depends_on_it(team: Path, masc: Command) -> None:
    done = masc(
        "compare", team, "--set", "steps_of_thought=0,1", "--rows", "single,latent", "--samples", 0, "-o", "swept"
    )
    assert done.code == 0, done.err
    with (team.parent / "swept" / "table.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [(line["row"], line["steps_of_thought"]) for line in lines] == [
        ("single", "0"),
        ("single", "1"),
        ("latent", "0"),
        ("latent", "1"),
    ]
    assert len(list((team.parent / "swept" / "runs").glob("single-*"))) == 1
    assert len(list((team.parent / "swept" / "runs").glob("latent-*"))) == 2
    assert [int(float(line["latent_steps"])) for line in lines] == [0, 0, 6, 9]
    # In the tables for people the row that does not depend on the value stands once.
    table = (team.parent / "swept" / "table.md").read_text().partition("\n\n")[0]
    shown = [line.split(" | ")[0] for line in table.splitlines()[2:]]
    untrained = "| as written, untrained, steps_of_thought"
    assert shown == ["| single agent", f"{untrained} = 0", f"{untrained} = 1"]
    assert (team.parent / "swept" / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_the_command(team: Path, masc: Command) -> None:
    rows = "single-tuned,latent,team"
    done = masc("compare", team, "--rows", rows, "--set", "steps=2", "--samples", 2, "--sampled", 2, "--seeds", "0,1")
    assert done.code == 0, done.err
    assert "single agent, fine-tuned (2 seeds)" in done.out
    assert "2 of 3 test rows are training rows" in done.err
    out = team.parent / "team.compare"
    table, _, below = (out / "table.md").read_text().partition("\n\n")
    markdown = table.splitlines()
    assert len(markdown) == 2 + 3
    assert "as written, end to end (2 seeds)" in markdown[-1]  # no chain: not what DiffMAS is
    assert "as written, untrained (2 seeds)" in markdown[-2]  # its link is drawn from the seed
    assert "Decoding, all rows: answer: at most 3 tokens, greedy" in below
    found = json.loads((out / "table.json").read_text())
    assert [line["row"] for line in found["lines"]] == ["single-tuned", "latent", "team"]
    assert found["run"]["test"]["sha256"] == hashlib.sha256((team.parent / "test.jsonl").read_bytes()).hexdigest()
    assert (found["run"]["scorer"], found["run"]["seeds"], found["run"]["test"]["rows"]) == ("exact", [0, 1], 3)
    artifact = next(out.glob("runs/team-*/team.masc"))
    audited = masc("audit", artifact, "--data", "test.jsonl", "--watched", 1, "-o", "audit.json")
    assert audited.code == 0, audited.err
    assert "guide -> writer (hidden):" in audited.out
    written = json.loads((team.parent / "audit.json").read_text())
    assert written["run"]["weights"]["sha256"] == json.loads((artifact / "manifest.json").read_text())["weights"]
    assert written["run"]["data"]["path"] == str((team.parent / "test.jsonl").absolute())
    edges = written["edges"]
    assert [(e["sender"], e["receiver"]) for e in edges] == [
        ("guide", "writer"),
        ("guide", "judge"),
        ("writer", "judge"),
    ]
    other = masc("audit", artifact, "--data", "test.jsonl", "--output", "anser")
    assert other.code == 1
    assert "did you mean `answer`?" in other.err
    drawn = masc("draw", team, "--audit", "audit.json", "-o", "team.dot")
    assert drawn.code == 0, drawn.err
    assert "penwidth" in (team.parent / "team.dot").read_text()
    wrong = masc("draw", team, "--audit", "train.jsonl", "-o", "team.dot")
    assert wrong.code == 1
    assert "E0602" in wrong.err


def test_an_audit_from_python_takes_the_weights_that_the_command_takes(team: Path, masc: Command) -> None:
    import masc as api

    assert masc("train", team, "--set", "steps=2").code == 0
    rows = [json.loads(row) for row in (team.parent / "test.jsonl").read_text().splitlines()]
    team.write_text(TEAM.replace("Judge.", "The judge."))
    for given, words in (
        ({"weights": "team.masc"}, ("--weights", "team.masc")),
        ({"weights": Path("team.masc"), "checkpoint": 1}, ("--weights", "team.masc", "--checkpoint", "1")),
    ):
        done = masc("audit", team, *words, "--watched", 1, "-o", "audit.json", "--dtype", "float32")
        assert done.code == 0, done.err
        found = api.audit(team, rows, watched=1, device="cpu", **given)
        assert found.log_likelihood == json.loads((team.parent / "audit.json").read_text())["log_likelihood"]
    with pytest.raises(MascError, match="E0614"):
        api.audit(team, rows)
    loaded = api.load(team, weights="team.masc", device="cpu")
    kept = api.load("team.masc", device="cpu")
    theirs = kept.state_dict(trainable_only=True)
    assert all(theirs[name].equal(one) for name, one in loaded.state_dict(trainable_only=True).items())
    assert loaded.plan != kept.plan


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        (("--rows", "singel"), 1, "did you mean `single`?"),
        (("--seeds", "one"), 2, "`one` is not a whole number"),
        (("--samples", "1"), 2, "agrees with nothing"),
        (("--output", "anser"), 1, "there is no"),
        (("--test", "nothing.jsonl"), 1, "nothing.jsonl"),
        (("--scorer", "code"), 1, "--allow-code-execution"),
        (("--set", "stepz=1"), 1, "steps"),
        (("--set", "seed=1,2"), 1, "--seeds"),
        (("--set", "data=train.jsonl,test.jsonl"), 1, "--train"),
    ],
)
def test_wrong_options(team: Path, masc: Command, options: tuple[str, ...], code: int, text: str) -> None:
    done = masc("compare", team, *options)
    assert done.code == code
    assert text in done.err.replace("the graph has no output", "there is no")


def test_a_mean_over_seeds_and_its_interval(team: Path) -> None:
    def result(row: str, seed: int, right: list[bool]) -> Result:
        report = {"gold_perplexity": 2.0 + seed, "decoded_perplexity": None, "tokens_decoded": 10, "latent_steps": 0}
        return Result(
            row, row, {}, seed, f"{row}-{seed}", {**report, "seconds": 1.0}, 5, None, 1, 1, 1, 1.0, None, right
        )

    few = [True, False, False, False] * 10
    many = [True, True, True, False] * 10
    lines = lines_of([*(result("single-tuned", s, few) for s in (0, 1)), *(result("team", s, many) for s in (0, 1))])
    assert [line.accuracy for line in lines] == [0.25, 0.75]
    assert lines[0].against is None
    assert lines[1].against is not None
    middle, low, high = lines[1].against
    assert middle == 0.5
    assert 0.2 < low < 0.4
    assert 0.6 < high < 0.8
    assert lines[0].gold_perplexity == 2.5
    assert lines[0].decoded_perplexity is None
    assert lines[0].interval[0] < 0.25 < lines[0].interval[1]
